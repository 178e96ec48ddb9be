// The Node SDK: node nodejs.mjs URL KEY IDENTITY TRAITS FALLBACK → the flags it gives its app, as JSON.
import { DefaultFlag, Flagsmith } from "flagsmith-nodejs";

const [url, key, identity, traits, fallback] = process.argv.slice(2);
const defaults = JSON.parse(fallback);

const flagsmith = new Flagsmith({
  apiUrl: `${url}/api/v1/`,
  environmentKey: key,
  enableLocalEvaluation: key.startsWith("ser."),
  defaultFlagHandler: (name) => new DefaultFlag(defaults[name].value, defaults[name].enabled),
  logger: { error() {}, warn() {}, info() {}, debug() {} }, // its own writes to standard output
});
const given = await flagsmith.getIdentityFlags(identity, JSON.parse(traits));
await flagsmith.close();

const names = Object.keys(given.flags).length ? Object.keys(given.flags) : Object.keys(defaults);
const flags = names.map((name) => [name, given.getFlag(name)]);
console.log(JSON.stringify(Object.fromEntries(flags.map(([name, { enabled, value }]) => [name, { enabled, value }]))));
