// The browser SDK: node javascript.mjs URL KEY IDENTITY TRAITS FALLBACK → the flags it gives its app, as JSON.
import flagsmith from "@flagsmith/flagsmith/isomorphic";

const [url, key, identity, traits, fallback] = process.argv.slice(2);

// `init` rejects where Flagsmith cannot be asked; the default flags are in force then, and the app goes on with them.
const failure = await flagsmith
  .init({
    api: `${url}/api/v1/`,
    environmentID: key,
    identity,
    traits: JSON.parse(traits),
    defaultFlags: JSON.parse(fallback),
  })
  .catch((error) => error);
if (failure) console.error(String(failure));

const flags = Object.entries(flagsmith.getAllFlags());
console.log(JSON.stringify(Object.fromEntries(flags.map(([name, { enabled, value }]) => [name, { enabled, value }]))));
