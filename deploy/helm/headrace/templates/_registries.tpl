{{/* What those that read producers' records are told of schema registries. All take a context with root and component,
     and are empty where there is none. */}}

{{- define "headrace.registriesOf" -}}
{{- if and (has .component (list "ingestion" "preprocessing" "inference")) .root.Values.schemaRegistries.hosts -}}true{{- end -}}
{{- end -}}

{{- define "headrace.registriesEnvironment" -}}
{{- if include "headrace.registriesOf" . -}}
- name: HEADRACE_SCHEMA_REGISTRY_HOSTS
  value: {{ join "," .root.Values.schemaRegistries.hosts | quote }}
{{- if .root.Values.schemaRegistries.keysSecret }}
- name: HEADRACE_SCHEMA_REGISTRY_KEYS_DIR
  value: /etc/headrace/schemas
{{- end }}
{{- end }}
{{- end -}}

{{- define "headrace.registriesMounts" -}}
{{- if and (include "headrace.registriesOf" .) .root.Values.schemaRegistries.keysSecret -}}
- {name: schema-keys, mountPath: /etc/headrace/schemas, readOnly: true}
{{- end }}
{{- end -}}

{{- define "headrace.registriesVolumes" -}}
{{- if and (include "headrace.registriesOf" .) .root.Values.schemaRegistries.keysSecret -}}
- name: schema-keys
  secret: {secretName: {{ .root.Values.schemaRegistries.keysSecret }}}
{{- end }}
{{- end -}}

{{- define "headrace.registriesEgress" -}}
{{- if include "headrace.registriesOf" . -}}
{{- $ports := list -}}
{{- range .root.Values.schemaRegistries.hosts -}}
{{- $ports = append $ports (splitList ":" . | last | int) -}}
{{- end }}
{{ include "headrace.egress" (dict "to" .root.Values.networkPolicy.schemaRegistries.to "ports" (uniq $ports)) }}
{{- end }}
{{- end -}}

{{- define "headrace.checkRegistries" -}}
{{- range .Values.schemaRegistries.hosts -}}
{{- if not (regexMatch "^[^:,/\\s]+:[0-9]+$" .) -}}
{{- fail (printf "schemaRegistries.hosts: expected host:port, got %q" .) -}}
{{- end -}}
{{- include "headrace.checkPort" (dict "what" "schemaRegistries.hosts" "address" .) -}}
{{- end -}}
{{- end -}}
