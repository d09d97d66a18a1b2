{{/* What the processes are told: environment variables, and the volumes with files that these name. */}}

{{/* How to reach Kafka. Takes the root and, where it is not everybody's, the secret with user name and password. */}}
{{- define "headrace.kafkaEnvironment" -}}
{{- $secret := default .root.Values.kafka.sasl.existingSecret .secret -}}
{{- with .root.Values.kafka -}}
- name: HEADRACE_KAFKA_BOOTSTRAP_SERVERS
  value: {{ .bootstrapServers | quote }}
- name: HEADRACE_KAFKA_SECURITY_PROTOCOL
  value: {{ .securityProtocol }}
{{- if hasPrefix "SASL_" .securityProtocol }}
- name: HEADRACE_KAFKA_SASL_MECHANISM
  value: {{ .sasl.mechanism }}
- name: HEADRACE_KAFKA_SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .sasl.usernameKey }}}}
- name: HEADRACE_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .sasl.passwordKey }}}}
{{- end }}
{{- if .tls.existingSecret }}
- name: HEADRACE_KAFKA_SSL_CAFILE
  value: /etc/headrace/kafka/ca.crt
{{- if .tls.certKey }}
- name: HEADRACE_KAFKA_SSL_CERTFILE
  value: /etc/headrace/kafka/tls.crt
- name: HEADRACE_KAFKA_SSL_KEYFILE
  value: /etc/headrace/kafka/tls.key
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "headrace.kafkaVolumes" -}}
{{- with .Values.kafka.tls -}}
{{- if .existingSecret -}}
- name: kafka-tls
  secret:
    secretName: {{ .existingSecret }}
    items:
      - {key: {{ .caKey }}, path: ca.crt}
      {{- if .certKey }}
      - {key: {{ .certKey }}, path: tls.crt}
      - {key: {{ .keyKey }}, path: tls.key}
      {{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headrace.kafkaMounts" -}}
{{- if .Values.kafka.tls.existingSecret -}}
- {name: kafka-tls, mountPath: /etc/headrace/kafka, readOnly: true}
{{- end -}}
{{- end -}}

{{/* Everything that a service is told. Takes root, component, values and facts. */}}
{{- define "headrace.environment" -}}
- name: HEADRACE_INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{ include "headrace.kafkaEnvironment" (dict "root" .root "secret" .values.kafkaSecret) }}
- name: HEADRACE_METRICS_ADDRESS
  value: 0.0.0.0:8002
{{- if dig "rest" "enabled" false .values }}
- name: HEADRACE_REST_ADDRESS
  value: 0.0.0.0:8000
{{- end }}
{{- with .facts.grpcPort }}
- name: HEADRACE_LISTEN_ADDRESS
  value: 0.0.0.0:{{ . }}
{{- with $.values.tls }}
{{- if .existingSecret }}
- name: HEADRACE_GRPC_TLS_CERT_FILE
  value: /etc/headrace/grpc/tls.crt
- name: HEADRACE_GRPC_TLS_KEY_FILE
  value: /etc/headrace/grpc/tls.key
{{- if .clientCaKey }}
- name: HEADRACE_GRPC_TLS_CLIENT_CA_FILE
  value: /etc/headrace/grpc/client-ca.crt
{{- end }}
- name: HEADRACE_HEALTH_ADDRESS
  value: 0.0.0.0:8003
{{- end }}
{{- end }}
{{- end }}
{{- if .facts.store }}
{{ include "headrace.storeEnvironment" .root }}
{{- end }}
{{- if .facts.workDir }}
- name: HEADRACE_WORK_DIR
  value: /var/lib/headrace/work
{{- end }}
{{- if .facts.redis }}
- name: HEADRACE_REDIS_URL
  {{- if .root.Values.redis.existingSecret }}
  valueFrom: {secretKeyRef: {name: {{ .root.Values.redis.existingSecret }}, key: {{ .root.Values.redis.urlKey }}}}
  {{- else }}
  value: {{ .root.Values.redis.url | quote }}
  {{- end }}
{{- end }}
{{- with .root.Values.telemetry.otlpEndpoint }}
- name: HEADRACE_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if dig "pods" "enabled" false .values }}
{{ include "headrace.podsEnvironment" .values.pods }}
{{- end }}
{{- with include "headrace.registriesEnvironment" . | trim }}
{{ . }}
{{- end }}
{{- if eq .component "inference" }}
{{- with include "headrace.upstreamEnvironment" .root | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- with include "headrace.personalEnvironment" . | trim }}
{{ . }}
{{- end }}
{{- include "headrace.ownEnvironment" . }}
{{- end -}}

{{/* Where objects are. Takes the root. */}}
{{- define "headrace.storeEnvironment" -}}
- name: HEADRACE_STORE_URL
  value: {{ .Values.store.url | quote }}
{{- if .Values.store.caSecret }}
- name: AWS_CA_BUNDLE
  value: /etc/headrace/store/ca.crt
{{- end }}
{{- end -}}

{{/* What a service's values say themselves, and what holds for all. Takes values. */}}
{{- define "headrace.ownEnvironment" -}}
{{- range $setting, $value := .values.settings }}
- name: HEADRACE_{{ upper $setting }}
  value: {{ include "headrace.text" $value | quote }}
{{- end }}
# The services use one thread for each operator, whatever the node has.
- name: OMP_NUM_THREADS
  value: "1"
- name: HOME
  value: /tmp
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
