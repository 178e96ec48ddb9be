{{/* The relay's YAML: what the chart sets, and the operator's config over it. */}}

{{/* Whether what the outbox holds is gone with its pod. */}}
{{- define "flagsmith-heap-relay.isEphemeral" -}}
{{- if not (and (eq .Values.mode "service") .Values.outbox.persistence.enabled) }}true{{ end }}
{{- end }}

{{/* What the chart sets. A native sidecar is told to stop when the app is gone, so that nobody has to look elsewhere; a
     classic one is told together with the app, and serves it to its end. */}}
{{- define "flagsmith-heap-relay.baseConfig" -}}
{{- $service := eq .Values.mode "service" }}
{{- $name := include "flagsmith-heap-relay.fullname" . }}
listen: {host: {{ $service | ternary "0.0.0.0" "127.0.0.1" }}, port: 18080}
admin:
  host: 0.0.0.0
  port: 19090
  {{- if $service }}
  hosts:
    {{- range list $name (printf "%s-pods" $name) }}
    - {{ . | quote }}
    - {{ printf "%s.%s" . $.Release.Namespace | quote }}
    - {{ printf "%s.%s.svc" . $.Release.Namespace | quote }}
    {{- end }}
  {{- end }}
log: {format: json}
upstream: {url: https://edge.api.flagsmith.com}
capture: {memory: 32MiB}
outbox:
  url: sqlite:////var/lib/relay/outbox.db
  ephemeral: {{ include "flagsmith-heap-relay.isEphemeral" . | eq "true" }}
  max_bytes: 512MiB
{{- if $service }}
shutdown: {grace: 5s, finish: 10s, drain: 10s}
{{- else if .Values.sidecar.native }}
shutdown: {grace: 0s, finish: 10s, drain: 10s}
{{- else }}
shutdown: {grace: 15s, finish: 5s, drain: 10s}
{{- end }}
{{- end }}

{{/* The whole configuration, checked as far as the cluster is concerned. */}}
{{- define "flagsmith-heap-relay.config" -}}
{{- $config := mustMergeOverwrite (fromYaml (include "flagsmith-heap-relay.baseConfig" .)) (deepCopy .Values.config) }}
{{- if not $config.environments }}
{{- fail "config.environments is empty, so nothing would be captured; name at least one environment (see values.yaml)" }}
{{- end }}
{{- include "flagsmith-heap-relay.checkMode" . }}
{{- $share := include "flagsmith-heap-relay.share" (dict "root" . "config" $config) }}
{{- if $share }}
{{- $_ := set $config "defaults" (mustMergeOverwrite (dict "heap" (dict "share" (float64 $share))) (default dict $config.defaults)) }}
{{- end }}
{{- include "flagsmith-heap-relay.checkReplicas" . }}
{{- include "flagsmith-heap-relay.checkHosts" (dict "root" . "config" $config) }}
{{- include "flagsmith-heap-relay.checkPorts" (dict "config" $config) }}
{{- include "flagsmith-heap-relay.checkGrace" (dict "root" . "config" $config) }}
{{- include "flagsmith-heap-relay.checkVolume" (dict "root" . "config" $config) }}
{{- toYaml $config }}
{{- end }}

{{/* Each pod's part of Heap's limits; nothing where config says all of them. */}}
{{- define "flagsmith-heap-relay.share" -}}
{{- $given := dig "defaults" "heap" "share" "" .config }}
{{- $missing := list }}
{{- range .config.environments }}
{{- if not (or $given (dig "heap" "share" "" .)) }}
{{- $missing = append $missing .name }}
{{- end }}
{{- end }}
{{- if $missing }}
{{- $pods := .root.Values.expectedPods }}
{{- if not $pods }}
{{- fail (printf "expectedPods is missing: Heap's limits are per app, so each pod may use its part of them only; set it to the most pods that send at a time (2 x replicas and a rollout's surge), or give heap.share in config for: %s" (join ", " $missing)) }}
{{- end }}
{{- if eq .root.Values.mode "service" }}
{{- include "flagsmith-heap-relay.checkPods" .root }}
{{- end }}
{{- divf 0.8 $pods | printf "%.6f" }}
{{- end }}
{{- end }}
