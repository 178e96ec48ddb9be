{{/* The relay's YAML: what the chart sets, and the operator's config over it. */}}

{{/* Whether what the outbox holds is gone with its pod. */}}
{{- define "flagsmith-heap-relay.isEphemeral" -}}
{{- if not (and (eq .Values.mode "service") .Values.outbox.persistence.enabled) }}true{{ end }}
{{- end }}

{{/* Whether config has its outbox in Redis. One that is a reference as a whole is not known. */}}
{{- define "flagsmith-heap-relay.isShared" -}}
{{- if regexMatch "^(rediss?([+](sentinel|cluster))?|unix)://" .outbox.url }}true{{ end }}
{{- end }}

{{/* What a relay of the app's pods, or of a service's, does: all, or what senders leave to it. */}}
{{- define "flagsmith-heap-relay.role" -}}
{{- .Values.senders.enabled | ternary "proxy" "all" }}
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
  {{- $names := $service | ternary (list $name (printf "%s-pods" $name)) list }}
  {{- with .Values.senders.enabled | ternary (append $names (printf "%s-sender" $name)) $names }}
  hosts:
    {{- range . }}
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
{{- if and (include "flagsmith-heap-relay.isShared" $config) (not (hasKey $config.outbox "spool")) }}
{{- $_ := set $config.outbox "spool" "sqlite:////var/lib/relay/spool.db" }}
{{- end }}
{{- include "flagsmith-heap-relay.check" (dict "root" . "config" $config) }}
{{- $share := include "flagsmith-heap-relay.share" (dict "root" . "config" $config) }}
{{- if $share }}
{{- $_ := set $config "defaults" (mustMergeOverwrite (dict "heap" (dict "share" (float64 $share))) (default dict $config.defaults)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Each pod's part of Heap's limits; nothing where config says all of them, or the pods share them. */}}
{{- define "flagsmith-heap-relay.share" -}}
{{- if include "flagsmith-heap-relay.shareless" .config }}
{{- divf 0.8 .root.Values.expectedPods | printf "%.6f" }}
{{- end }}
{{- end }}

{{/* Names of the environments whose part config does not say, where each pod has one of its own. */}}
{{- define "flagsmith-heap-relay.shareless" -}}
{{- $names := list }}
{{- if not (include "flagsmith-heap-relay.isShared" .) }}
{{- range .environments | default (list (dict "name" "all environments")) }}
{{- if not (or (dig "defaults" "heap" "share" "" $) (dig "heap" "share" "" .)) }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}
{{- end }}
{{- join ", " $names }}
{{- end }}

{{/* The most pods that send at a time. One that was told to stop still delivers, and a Deployment does not wait for it:
     beside all its replicas and its surge there may be as many that terminate. A StatefulSet's pod comes when the one before
     it is gone. Another chart's pods are not known here. */}}
{{- define "flagsmith-heap-relay.mostPods" -}}
{{- if eq .Values.mode "sidecar" }}
{{- .Values.expectedPods | default 1 | int }}
{{- else }}
{{- $most := .Values.autoscaling.enabled | ternary .Values.autoscaling.maxReplicas .Values.replicaCount | int }}
{{- if not .Values.outbox.persistence.enabled }}
{{- $surge := toString .Values.rollout.maxSurge }}
{{- $most = add (mul 2 $most) (hasSuffix "%" $surge | ternary (divf (mulf $most (float64 (trimSuffix "%" $surge))) 100 | ceil) (float64 $surge) | int) }}
{{- end }}
{{- $most }}
{{- end }}
{{- end }}
