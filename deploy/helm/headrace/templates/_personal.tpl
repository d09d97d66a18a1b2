{{/* Where the keys of personal fields are. All take what a pod takes, and are empty where there is none. */}}

{{- define "headrace.hasPersonalKeys" -}}
{{- if and .root.Values.personal.keysSecret (has .component (list "ingestion" "preprocessing")) }}true{{ end -}}
{{- end -}}

{{- define "headrace.personalEnvironment" -}}
{{- if include "headrace.hasPersonalKeys" . }}
- name: HEADRACE_PERSONAL_KEYS_DIR
  value: /etc/headrace/personal
{{- end }}
{{- end -}}

{{- define "headrace.personalMounts" -}}
{{- if include "headrace.hasPersonalKeys" . }}
- {name: personal-keys, mountPath: /etc/headrace/personal, readOnly: true}
{{- end }}
{{- end -}}

{{- define "headrace.personalVolumes" -}}
{{- if include "headrace.hasPersonalKeys" . }}
- name: personal-keys
  secret: {secretName: {{ .root.Values.personal.keysSecret }}}
{{- end }}
{{- end -}}
