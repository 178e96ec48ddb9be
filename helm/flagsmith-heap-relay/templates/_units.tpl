{{/* Reading what the operator wrote. The schema has let through well-formed text only, and in config references. */}}

{{/* A setting of config that the chart reckons with: dict "config", "section", "key". */}}
{{- define "flagsmith-heap-relay.known" -}}
{{- $value := get (get .config .section) .key | toString }}
{{- if contains "${" $value }}
{{- fail (printf "config.%s.%s is %s, and the chart has to know it; write it out" .section .key $value) }}
{{- end }}
{{- $value }}
{{- end }}

{{/* What stands in values at a path, as JSON: list of values and "a.b.c". */}}
{{- define "flagsmith-heap-relay.at" -}}
{{- $found := first . }}
{{- range last . | splitList "." }}
{{- $found = get $found . }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{/* Milliseconds of a duration: "250ms", "1.5h", 0. */}}
{{- define "flagsmith-heap-relay.milliseconds" -}}
{{- $units := dict "" 0 "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 }}
{{- mulf (regexFind "^[0-9.]+" . | float64) (regexFind "[a-z]*$" . | get $units) | ceil | int64 }}
{{- end }}

{{/* Bytes of a size, the relay's or Kubernetes': "32MiB", "1.5Gi". */}}
{{- define "flagsmith-heap-relay.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- mulf (regexFind "^[0-9.]+" . | float64) (regexFind "[A-Za-z]*$" . | trimSuffix "B" | get $units) | floor | int64 }}
{{- end }}

{{/* The ports of a part of networkPolicy, with blanks between: its own, or those of the addresses: dict "policy", "name",
     "urls". */}}
{{- define "flagsmith-heap-relay.portsOf" -}}
{{- $ports := default list (get .policy .name).ports }}
{{- if not $ports }}
{{- range .urls }}
{{- if contains "${" . }}
{{- fail (printf "networkPolicy.%s.ports is empty, and %s does not tell the port; write it there" $.name .) }}
{{- end }}
{{- $url := urlParse . }}
{{- $ports = append $ports (regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (eq $url.scheme "http" | ternary "80" "443")) }}
{{- end }}
{{- end }}
{{- uniq $ports | join " " }}
{{- end }}

{{/* A URL for each port of the Redis in config, with blanks between; nothing where there is none, or a socket. Sentinels
     lead to a master at a port of its own: Redis' default. */}}
{{- define "flagsmith-heap-relay.redisUrls" -}}
{{- $url := .config.outbox.url }}
{{- if regexMatch "^redis" $url }}
{{- $place := regexReplaceAll "^[^:]*://(.*@)?" $url "" | regexFind "^[^/?]*" }}
{{- if and (contains "${" $place) (not .policy.redis.ports) }}
{{- fail (printf "networkPolicy.redis.ports is empty, and config.outbox.url names the host by reference; write the ports there, or the host out") }}
{{- end }}
{{- $sentinel := contains "+sentinel:" $url }}
{{- $urls := $sentinel | ternary (list "redis://master:6379") list }}
{{- range splitList "," $place }}
{{- $port := regexFind ":[0-9]+$" . | default ($sentinel | ternary ":26379" ":6379") }}
{{- $urls = append $urls (printf "redis://node%s" $port) }}
{{- end }}
{{- join " " $urls }}
{{- end }}
{{- end }}
