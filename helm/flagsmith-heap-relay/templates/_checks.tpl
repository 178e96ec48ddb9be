{{/* What is refused before anything is deployed, with what to write instead. All take a dict of "root" and "config". */}}

{{- define "flagsmith-heap-relay.check" -}}
{{- range list "Given" "Mode" "Pods" "Shares" "Replicas" "Hosts" "Ports" "Grace" "Mount" "Volume" "Fleet" }}
{{- include (printf "flagsmith-heap-relay.check%s" .) $ }}
{{- end }}
{{- end }}

{{/* What the chart cannot know: all that is missing, at once. */}}
{{- define "flagsmith-heap-relay.checkGiven" -}}
{{- $missing := list }}
{{- if not .root.Values.image.repository }}
{{- $missing = append $missing "image.repository is empty; write where you pushed the image, like registry.example.com/flagsmith-heap-relay" }}
{{- end }}
{{- if not .config.environments }}
{{- $missing = append $missing "config.environments is empty, so nothing would be captured; name at least one environment (see values.yaml)" }}
{{- end }}
{{- $shareless := include "flagsmith-heap-relay.shareless" .config }}
{{- if and $shareless (not .root.Values.expectedPods) }}
{{- $missing = append $missing (printf "expectedPods is missing: Heap's limits are per app, so each pod may use its part of them only; set it to the most pods that send at a time (2 x replicas and a rollout's surge), or give heap.share in config for: %s" $shareless) }}
{{- end }}
{{- with $missing }}
{{- fail (join ". " .) }}
{{- end }}
{{- end }}

{{/* What a mode has no use for would be ignored, so it has to be as it is by default. */}}
{{- define "flagsmith-heap-relay.checkMode" -}}
{{- $useless := dict "service" (list "metrics.podMonitor" "sidecar.native") "sidecar" (list
      "affinity" "autoscaling" "imagePullSecrets" "ingress" "metrics.serviceMonitor" "networkPolicy" "nodeSelector"
      "outbox.persistence" "podAnnotations" "podDisruptionBudget" "podLabels" "priorityClassName" "replicaCount" "rollout"
      "service" "serviceAccount" "tolerations" "topologySpreadConstraints") }}
{{- $told := dict
      "service" "mode service has no use for: %s; leave them out (metrics.serviceMonitor is for a service), or set mode: sidecar"
      "sidecar" "mode sidecar makes no pods, so it has no use for: %s; leave them out and say so in the chart of the app, or set mode: service" }}
{{- if .root.Values.senders.enabled }}
{{- $_ := set $useless "sidecar" (list "autoscaling" "ingress" "outbox.persistence" "replicaCount" "rollout" "service") }}
{{- end }}
{{- $defaults := .root.Files.Get "files/defaults.yaml" | fromYaml }}
{{- $given := list }}
{{- range get $useless .root.Values.mode }}
{{- if ne (include "flagsmith-heap-relay.at" (list $defaults .)) (include "flagsmith-heap-relay.at" (list $.root.Values .)) }}
{{- $given = append $given . }}
{{- end }}
{{- end }}
{{- with $given }}
{{- fail (printf (get $told $.root.Values.mode) (join ", " .)) }}
{{- end }}
{{- end }}

{{/* As many pods are expected as there can be. */}}
{{- define "flagsmith-heap-relay.checkPods" -}}
{{- $most := include "flagsmith-heap-relay.mostPods" .root | int }}
{{- $expected := int .root.Values.expectedPods }}
{{- if and (include "flagsmith-heap-relay.shareless" .config) (lt $expected $most) }}
{{- fail (printf "expectedPods is %d, but %d pods can send at a time (a rollout's surge, and old pods that still deliver, included); set it to at least that, or they pass Heap's limits together" $expected $most) }}
{{- end }}
{{- end }}

{{/* A share that config gives is one pod's, or a fleet's. All together may use 0.92 of Heap's limits, as a relay alone may. */}}
{{- define "flagsmith-heap-relay.checkShares" -}}
{{- $most := include "flagsmith-heap-relay.isShared" .config | eq "true" | ternary 1 (include "flagsmith-heap-relay.mostPods" .root | int) }}
{{- range .config.environments }}
{{- $share := coalesce (dig "heap" "share" nil .) (dig "defaults" "heap" "share" nil $.config) }}
{{- if and (not (kindIs "string" $share)) (gt (mulf (float64 $share) $most) 0.92) }}
{{- fail (printf "heap.share of %s is %v, but %d pods can send at a time, each with that part of Heap's limits; write at most %.4f, or leave it out for expectedPods to divide them" .name $share $most (divf 0.8 $most)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Pods can come and go. */}}
{{- define "flagsmith-heap-relay.checkReplicas" -}}
{{- with .root.Values }}
{{- if eq .mode "service" }}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas is %d, more than maxReplicas, %d; lower the one or raise the other" (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- end }}
{{- $resources := default dict .resources }}
{{- if and .autoscaling.enabled (not (or (dig "requests" "cpu" "" $resources) (dig "limits" "cpu" "" $resources))) }}
{{- fail "autoscaling needs resources.requests.cpu, of which targetCPUUtilizationPercentage is a part; give it" }}
{{- end }}
{{- if and (not .outbox.persistence.enabled) (eq (list .rollout.maxSurge .rollout.maxUnavailable | join " " | replace "%" "") "0 0") }}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0, so no pod could be replaced; raise one of them" }}
{{- end }}
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

{{/* What the pod's probes and the Service ask for by number. */}}
{{- define "flagsmith-heap-relay.checkPorts" -}}
{{- range list "listen" "admin" }}
{{- $port := include "flagsmith-heap-relay.known" (dict "config" $.config "section" . "key" "port") }}
{{- if eq $port "0" }}
{{- fail (printf "config.%s.port is 0, any free one, and the pod has to name it; write a number from 1 to 65535" .) }}
{{- end }}
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

{{/* The outbox is on a volume: a relay that cannot write it passes flags on and captures nothing. */}}
{{- define "flagsmith-heap-relay.checkMount" -}}
{{- range $key := list "url" "spool" }}
{{- $url := get $.config.outbox $key | toString }}
{{- $kept := or (not (hasPrefix "sqlite:" $url)) (contains "${" $url) }}
{{- range prepend (default list $.root.Values.extraVolumeMounts) (dict "mountPath" "/var/lib/relay") }}
{{- $kept = or $kept (hasPrefix (printf "sqlite:///%s/" (trimSuffix "/" .mountPath)) $url) }}
{{- end }}
{{- if not $kept }}
{{- fail (printf "config.outbox.%s is %s, which is on no volume, and the container's own files are read-only; leave it out, or write a path below one of extraVolumeMounts" $key $url) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The outbox's volume has room for what the relay may store, and for the 8 MiB with which it delivers when it is full. */}}
{{- define "flagsmith-heap-relay.checkVolume" -}}
{{- $shared := include "flagsmith-heap-relay.isShared" .config | eq "true" }}
{{- if hasPrefix "sqlite:////var/lib/relay/" ($shared | ternary .config.outbox.spool .config.outbox.url | toString) }}
{{- $ephemeral := include "flagsmith-heap-relay.isEphemeral" .root | eq "true" }}
{{- $name := $ephemeral | ternary "outbox.emptyDir.sizeLimit" "outbox.persistence.size" }}
{{- $size := $ephemeral | ternary .root.Values.outbox.emptyDir.sizeLimit .root.Values.outbox.persistence.size }}
{{- $most := include "flagsmith-heap-relay.known" (dict "config" .config "section" "outbox" "key" "max_bytes") }}
{{- $bytes := include "flagsmith-heap-relay.bytes" $most | int64 }}
{{- $needed := add ($shared | ternary (min $bytes 536870912) $bytes) 8388608 }}
{{- if and $ephemeral (eq (toString .config.outbox.ephemeral) "false") }}
{{- fail "config.outbox.ephemeral is false, but the outbox is in an emptyDir, which goes with its pod; leave it out, and set outbox.persistence.enabled for an outbox that stays" }}
{{- end }}
{{- if lt (include "flagsmith-heap-relay.bytes" $size | int64) $needed }}
{{- fail (printf "%s is %s, too small for config.outbox.max_bytes (%s) and 8 MiB to deliver from when that is full; raise the one or lower the other" $name $size $most) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Relays that share an outbox share Heap's limits; and only they can leave delivery to others. */}}
{{- define "flagsmith-heap-relay.checkFleet" -}}
{{- if include "flagsmith-heap-relay.isShared" .config }}
{{- if .root.Values.expectedPods }}
{{- fail "expectedPods divides Heap's limits among pods, and those whose outbox is in Redis share them; leave it out" }}
{{- end }}
{{- else if .root.Values.senders.enabled }}
{{- fail (printf "senders.enabled is true, but config.outbox.url is %s, which no other pod can read; write redis://host:6379/0 (the chart has to see it: a password alone may be a reference)" .config.outbox.url) }}
{{- end }}
{{- end }}
