{{/* The container and what belongs to it, the same in every mode: the restricted Pod Security profile. */}}

{{/* Only what a container cannot say of itself: its volumes are readable to the group. */}}
{{- define "flagsmith-heap-relay.podSecurityContext" -}}
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}

{{- define "flagsmith-heap-relay.container" -}}
{{- include "flagsmith-heap-relay.containerAs" (dict "root" . "role" (include "flagsmith-heap-relay.role" .)) }}
{{- end }}

{{/* The container of a relay that does one thing: dict "root", "role". */}}
{{- define "flagsmith-heap-relay.containerAs" -}}
{{- $role := .role -}}
{{- with .root -}}
{{- $config := fromYaml (include "flagsmith-heap-relay.config" .) -}}
name: {{ .Values.sidecar.name | quote }}
image: {{ include "flagsmith-heap-relay.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, -c, /etc/relay/config.yaml{{ if ne $role "all" }}, --role, {{ $role }}{{ end }}]
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
ports:
  {{- if ne $role "sender" }}
  - {name: {{ eq .Values.mode "service" | ternary "http" "relay-http" }}, containerPort: {{ $config.listen.port }}}
  {{- end }}
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
{{- end }}

{{- define "flagsmith-heap-relay.resources" -}}
{{- $copies := include "flagsmith-heap-relay.known" (dict "config" .config "section" "capture" "key" "memory") }}
{{- $memory := add 67108864 (mul 3 (include "flagsmith-heap-relay.bytes" $copies | int64)) }}
{{- $limits := dict "limits" (dict "memory" (printf "%dMi" (divf $memory 1048576 | ceil | int))) }}
{{- toYaml (mustMergeOverwrite $limits (default dict .root.Values.resources | deepCopy)) }}
{{- end }}

{{/* Volumes but for a StatefulSet's outbox, which comes of its claim template. */}}
{{- define "flagsmith-heap-relay.volumes" -}}
{{- include "flagsmith-heap-relay.volumesAs" (dict "root" . "role" (include "flagsmith-heap-relay.role" .)) }}
{{- end }}

{{- define "flagsmith-heap-relay.volumesAs" -}}
{{- $role := .role -}}
{{- with .root -}}
- name: relay-config
  configMap: {name: {{ include "flagsmith-heap-relay.fullname" . | quote }}}
{{- if or (include "flagsmith-heap-relay.isEphemeral" .) (eq $role "sender") }}
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
{{- end }}

{{/* Pods of the relay's own: dict "root", "role". */}}
{{- define "flagsmith-heap-relay.podTemplate" -}}
{{- $role := .role }}
{{- $labels := include "flagsmith-heap-relay.selectorLabelsAs" . | fromYaml }}
{{- with .root -}}
metadata:
  labels:
    {{- merge (deepCopy $labels) (default dict .Values.podLabels) | toYaml | nindent 4 }}
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
    {{- $pods := dict "matchLabels" $labels }}
    {{- range . }}
    - {{ hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" $pods) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  containers:
    - {{ include "flagsmith-heap-relay.containerAs" (dict "root" . "role" $role) | nindent 6 | trim }}
  volumes:
    {{- include "flagsmith-heap-relay.volumesAs" (dict "root" . "role" $role) | nindent 4 }}
{{- end }}
{{- end }}
