{{/* What is refused before anything is deployed: each says what to write instead. */}}

{{/* A sidecar's pod is another chart's, so what concerns pods would be ignored. */}}
{{- define "flagsmith-heap-relay.checkMode" -}}
{{- if eq .Values.mode "sidecar" }}
{{- $given := dict "outbox.persistence" .Values.outbox.persistence.enabled "metrics.serviceMonitor" .Values.metrics.serviceMonitor.enabled }}
{{- range list "autoscaling" "ingress" "networkPolicy" }}
{{- $_ := set $given . (get $.Values .).enabled }}
{{- end }}
{{- range list "affinity" "imagePullSecrets" "nodeSelector" "podAnnotations" "podLabels" "priorityClassName" "tolerations" }}
{{- $_ := set $given . (get $.Values .) }}
{{- end }}
{{- $names := list }}
{{- range $name, $value := $given }}
{{- if $value }}
{{- $names = append $names $name }}
{{- end }}
{{- end }}
{{- with $names }}
{{- fail (printf "mode sidecar makes no pods, so it has no use for: %s; leave them out and say so in the chart of the app, or set mode: service" (join ", " .)) }}
{{- end }}
{{- else if .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.podMonitor is for mode sidecar; use metrics.serviceMonitor" }}
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

{{/* What the pod's probes and the Service ask for by number. */}}
{{- define "flagsmith-heap-relay.checkPorts" -}}
{{- range list "listen" "admin" }}
{{- $port := include "flagsmith-heap-relay.known" (dict "config" $.config "section" . "key" "port") }}
{{- if eq $port "0" }}
{{- fail (printf "config.%s.port is 0, any free one, and the pod has to name it; write a number from 1 to 65535" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Who has to reach the relay does. */}}
{{- define "flagsmith-heap-relay.checkHosts" -}}
{{- range eq .root.Values.mode "service" | ternary (list "listen" "admin") (list "admin") }}
{{- $host := get (get $.config .) "host" }}
{{- if regexMatch "^(127[.].*|::1|localhost)$" $host }}
{{- fail (printf "config.%s.host is %s, which nothing outside the pod can reach, the kubelet's probes included; leave it out, or write 0.0.0.0" . $host) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Pods can come and go. */}}
{{- define "flagsmith-heap-relay.checkReplicas" -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas is %d, more than maxReplicas, %d; lower the one or raise the other" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and (not .Values.outbox.persistence.enabled) (eq (list .Values.rollout.maxSurge .Values.rollout.maxUnavailable | join " " | replace "%" "") "0 0") }}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0, so no pod could be replaced; raise one of them" }}
{{- end }}
{{- end }}

{{- define "flagsmith-heap-relay.checkGrace" -}}
{{- $needed := 5000 }}
{{- range list "grace" "finish" "drain" }}
{{- $setting := include "flagsmith-heap-relay.known" (dict "config" $.config "section" "shutdown" "key" .) }}
{{- $needed = add $needed (include "flagsmith-heap-relay.milliseconds" $setting | int64) }}
{{- end }}
{{- $seconds := divf $needed 1000 | ceil | int }}
{{- if lt (int .root.Values.terminationGracePeriodSeconds) $seconds }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but config.shutdown needs %d (grace + finish + drain + 5); raise the one or lower the others, or the kubelet kills the relay in the middle" (int .root.Values.terminationGracePeriodSeconds) $seconds) }}
{{- end }}
{{- end }}

{{/* The outbox's volume has room for what the relay may store, and for the 8 MiB with which it delivers when it is full. */}}
{{- define "flagsmith-heap-relay.checkVolume" -}}
{{- if hasPrefix "sqlite:////var/lib/relay/" .config.outbox.url }}
{{- $ephemeral := include "flagsmith-heap-relay.isEphemeral" .root | eq "true" }}
{{- $name := $ephemeral | ternary "outbox.emptyDir.sizeLimit" "outbox.persistence.size" }}
{{- $size := $ephemeral | ternary .root.Values.outbox.emptyDir.sizeLimit .root.Values.outbox.persistence.size }}
{{- $most := include "flagsmith-heap-relay.known" (dict "config" .config "section" "outbox" "key" "max_bytes") }}
{{- $needed := add (include "flagsmith-heap-relay.bytes" $most | int64) 8388608 }}
{{- if and $ephemeral (eq (toString .config.outbox.ephemeral) "false") }}
{{- fail "config.outbox.ephemeral is false, but the outbox is in an emptyDir, which goes with its pod; leave it out, and set outbox.persistence.enabled for an outbox that stays" }}
{{- end }}
{{- if lt (include "flagsmith-heap-relay.bytes" $size | int64) $needed }}
{{- fail (printf "%s is %s, too small for config.outbox.max_bytes (%s) and 8 MiB to deliver from when that is full; raise the one or lower the other" $name $size $most) }}
{{- end }}
{{- end }}
{{- end }}
