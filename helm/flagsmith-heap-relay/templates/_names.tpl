{{/* Names and labels. */}}

{{- define "flagsmith-heap-relay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "flagsmith-heap-relay.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "flagsmith-heap-relay.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "flagsmith-heap-relay.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Of what belongs to relays that do one thing: dict "root", "role". */}}
{{- define "flagsmith-heap-relay.fullnameAs" -}}
{{- include "flagsmith-heap-relay.fullname" .root }}{{ if eq .role "sender" }}-sender{{ end }}
{{- end }}

{{- define "flagsmith-heap-relay.selectorLabels" -}}
app.kubernetes.io/name: {{ include "flagsmith-heap-relay.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Senders are pods apart: no caller is led to them. Takes dict "root", "role". */}}
{{- define "flagsmith-heap-relay.selectorLabelsAs" -}}
{{- $labels := include "flagsmith-heap-relay.selectorLabels" .root | fromYaml }}
{{- if eq .role "sender" }}
{{- $_ := set $labels "app.kubernetes.io/name" (printf "%s-sender" (include "flagsmith-heap-relay.name" .root | trunc 56 | trimSuffix "-")) }}
{{- end }}
{{- toYaml $labels }}
{{- end }}

{{- define "flagsmith-heap-relay.labels" -}}
{{ include "flagsmith-heap-relay.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "flagsmith-heap-relay.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "flagsmith-heap-relay.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "flagsmith-heap-relay.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}
