{{/* The relay's YAML: what the chart sets, and the operator's config over it. */}}

{{/* Milliseconds of a duration as the relay's YAML writes it: "250ms", "1.5h", 0. */}}
{{- define "flagsmith-heap-relay.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "" 0 }}
{{- $text := toString . }}
{{- $unit := regexReplaceAll "^[0-9.]+" $text "" }}
{{- if not (and (hasKey $units $unit) (regexMatch "^[0-9]+([.][0-9]+)?(ms|s|m|h|d)$|^0$" $text)) }}
{{- fail (printf "config.shutdown: %q is no duration; write a number with its unit (ms, s, m, h or d), like 5s" $text) }}
{{- end }}
{{- mulf (float64 (regexReplaceAll "[a-z]+$" $text "")) (get $units $unit) | ceil | int64 }}
{{- end }}

{{/* Bytes of a size: "32MiB". */}}
{{- define "flagsmith-heap-relay.bytes" -}}
{{- $units := dict "B" 1 "KB" 1000 "MB" 1000000 "GB" 1000000000 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 }}
{{- $text := toString . }}
{{- $unit := regexReplaceAll "^[0-9]+" $text "" }}
{{- if not (and (hasKey $units $unit) (regexMatch "^[0-9]+[A-Za-z]+$" $text)) }}
{{- fail (printf "config.capture.memory: %q is no size; write a whole number with its unit, like 32MiB" $text) }}
{{- end }}
{{- mul (int64 (regexReplaceAll "[A-Za-z]+$" $text "")) (int64 (get $units $unit)) }}
{{- end }}

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
    - {{ . }}
    - {{ . }}.{{ $.Release.Namespace }}
    - {{ . }}.{{ $.Release.Namespace }}.svc
    {{- end }}
  {{- end }}
log: {format: json}
capture: {memory: 32MiB}
outbox:
  url: sqlite:////var/lib/relay/outbox.db
  ephemeral: {{ include "flagsmith-heap-relay.isEphemeral" . | eq "true" }}
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
{{- $share := include "flagsmith-heap-relay.share" (dict "root" . "config" $config) }}
{{- if $share }}
{{- $_ := set $config "defaults" (mustMergeOverwrite (dict "heap" (dict "share" (float64 $share))) (default dict $config.defaults)) }}
{{- end }}
{{- include "flagsmith-heap-relay.checkGrace" (dict "root" . "config" $config) }}
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

{{/* A pod that was told to stop still delivers, and a Deployment does not wait for it: beside all its replicas and its surge
     there may be as many that terminate. A StatefulSet's pod comes when the one before it is gone. */}}
{{- define "flagsmith-heap-relay.checkPods" -}}
{{- $most := .Values.autoscaling.enabled | ternary .Values.autoscaling.maxReplicas .Values.replicaCount | int }}
{{- if not .Values.outbox.persistence.enabled }}
{{- $surge := toString .Values.rollout.maxSurge }}
{{- $most = add (mul 2 $most) (hasSuffix "%" $surge | ternary (divf (mulf $most (float64 (trimSuffix "%" $surge))) 100 | ceil) (float64 $surge) | int) }}
{{- end }}
{{- if lt (int .Values.expectedPods) (int $most) }}
{{- fail (printf "expectedPods is %d, but %d pods can send at a time (a rollout's surge, and old pods that still deliver, included); set it to at least that, or they pass Heap's limits together" (int .Values.expectedPods) (int $most)) }}
{{- end }}
{{- end }}

{{- define "flagsmith-heap-relay.checkGrace" -}}
{{- $needed := 5000 }}
{{- range list "grace" "finish" "drain" }}
{{- $needed = add $needed (include "flagsmith-heap-relay.milliseconds" (get $.config.shutdown .) | int64) }}
{{- end }}
{{- $seconds := divf $needed 1000 | ceil | int }}
{{- if lt (int .root.Values.terminationGracePeriodSeconds) $seconds }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but config.shutdown needs %d (grace + finish + drain + 5); raise the one or lower the others, or the kubelet kills the relay in the middle" (int .root.Values.terminationGracePeriodSeconds) $seconds) }}
{{- end }}
{{- end }}
