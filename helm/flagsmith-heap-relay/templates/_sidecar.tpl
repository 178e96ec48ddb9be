{{/*
For the charts of apps, which depend on this one with mode: sidecar. All of them take this chart's own context,

  {{- $relay := index .Subcharts "flagsmith-heap-relay" }}

and which of the two lists holds the relay is decided by sidecar.native, so that an app's chart includes both:

  initContainers: {{- include "flagsmith-heap-relay.initContainers" $relay | nindent 8 }}
  containers:     {{- include "flagsmith-heap-relay.containers" $relay | nindent 8 }}
  volumes:        {{- include "flagsmith-heap-relay.volumes" $relay | nindent 8 }}
*/}}

{{/* First in the list: it starts before, and stops after, every other container. */}}
{{- define "flagsmith-heap-relay.initContainers" -}}
{{- if .Values.sidecar.native -}}
- restartPolicy: Always
  {{- include "flagsmith-heap-relay.container" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* For clusters before 1.29. */}}
{{- define "flagsmith-heap-relay.containers" -}}
{{- if not .Values.sidecar.native -}}
- {{ include "flagsmith-heap-relay.container" . | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/* What an SDK in the pod takes as its API URL. The address, not localhost, which may be ::1. */}}
{{- define "flagsmith-heap-relay.apiUrl" -}}
http://127.0.0.1:{{ (fromYaml (include "flagsmith-heap-relay.config" .)).listen.port }}/api/v1/
{{- end }}
