{{/* The container and what belongs to it, the same in every mode: the restricted Pod Security profile. */}}

{{/* Only what a container cannot say of itself: its volumes are readable to the group. */}}
{{- define "flagsmith-heap-relay.podSecurityContext" -}}
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}

{{- define "flagsmith-heap-relay.container" -}}
{{- $config := fromYaml (include "flagsmith-heap-relay.config" .) -}}
name: {{ .Values.sidecar.name | quote }}
image: {{ include "flagsmith-heap-relay.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, -c, /etc/relay/config.yaml]
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
ports:
  - {name: {{ eq .Values.mode "service" | ternary "http" "relay-http" }}, containerPort: {{ $config.listen.port }}}
  - {name: relay-admin, containerPort: {{ $config.admin.port }}}
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .Values.existingSecret.name (eq .Values.existingSecret.as "env") }}
envFrom:
  - secretRef: {name: {{ .Values.existingSecret.name | quote }}}
{{- end }}
# The app starts once the relay listens; neither Heap's nor Flagsmith's health is ever asked.
startupProbe:
  httpGet: {path: /readyz, port: relay-admin}
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: relay-admin}
  periodSeconds: 5
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, port: relay-admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
resources:
  {{- include "flagsmith-heap-relay.resources" (dict "root" . "config" $config) | nindent 2 }}
volumeMounts:
  - {name: relay-config, mountPath: /etc/relay, readOnly: true}
  - {name: relay-outbox, mountPath: /var/lib/relay}
  {{- if and .Values.existingSecret.name (eq .Values.existingSecret.as "files") }}
  - {name: relay-secrets, mountPath: /run/secrets/relay, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "flagsmith-heap-relay.resources" -}}
{{- $copies := include "flagsmith-heap-relay.known" (dict "config" .config "section" "capture" "key" "memory") }}
{{- $memory := add 67108864 (mul 3 (include "flagsmith-heap-relay.bytes" $copies | int64)) }}
{{- $limits := dict "limits" (dict "memory" (printf "%dMi" (divf $memory 1048576 | ceil | int))) }}
{{- toYaml (mustMergeOverwrite $limits (default dict .root.Values.resources | deepCopy)) }}
{{- end }}

{{/* Volumes but for a StatefulSet's outbox, which comes of its claim template. */}}
{{- define "flagsmith-heap-relay.volumes" -}}
- name: relay-config
  configMap: {name: {{ include "flagsmith-heap-relay.fullname" . | quote }}}
{{- if include "flagsmith-heap-relay.isEphemeral" . }}
- name: relay-outbox
  emptyDir: {sizeLimit: {{ .Values.outbox.emptyDir.sizeLimit | quote }}}
{{- end }}
{{- if and .Values.existingSecret.name (eq .Values.existingSecret.as "files") }}
- name: relay-secrets
  secret: {secretName: {{ .Values.existingSecret.name | quote }}, defaultMode: 288}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Pods of the relay's own. */}}
{{- define "flagsmith-heap-relay.podTemplate" -}}
metadata:
  labels:
    {{- merge (include "flagsmith-heap-relay.selectorLabels" . | fromYaml) (default dict .Values.podLabels) | toYaml | nindent 4 }}
  annotations:
    {{- merge (dict "checksum/config" (include "flagsmith-heap-relay.config" . | sha256sum)) (default dict .Values.podAnnotations) | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "flagsmith-heap-relay.serviceAccountName" . | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "flagsmith-heap-relay.podSecurityContext" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $pods := dict "matchLabels" (include "flagsmith-heap-relay.selectorLabels" $ | fromYaml) }}
    {{- range . }}
    - {{ hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" $pods) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  containers:
    - {{ include "flagsmith-heap-relay.container" . | nindent 6 | trim }}
  volumes:
    {{- include "flagsmith-heap-relay.volumes" . | nindent 4 }}
{{- end }}
