{{/* Who may talk to whom. Everything else is denied by the policy in network.yaml. */}}

{{/* An egress rule. Takes `to` (empty: any address) and `ports`. */}}
{{- define "headrace.egress" -}}
{{- $ports := list -}}
{{- range .ports -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
- ports:
    {{- range $ports | uniq }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Egress to whoever answers DNS. Takes the root. */}}
{{- define "headrace.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
  to:
    {{- toYaml .Values.networkPolicy.dns.to | nindent 4 }}
{{- end -}}

{{/* Egress to the release's own services. Takes the root. */}}
{{- define "headrace.servicesEgress" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "headrace.selectorLabels" (dict "root" . "component" "") | nindent 10 }}
{{- end -}}

{{/* Egress to the brokers. Takes the root. */}}
{{- define "headrace.kafkaEgress" -}}
{{- $ports := .Values.networkPolicy.kafka.ports -}}
{{- range splitList "," .Values.kafka.bootstrapServers -}}
{{- $ports = append $ports (splitList ":" . | last | trim | int) -}}
{{- end -}}
{{- include "headrace.egress" (dict "to" .Values.networkPolicy.kafka.to "ports" $ports) -}}
{{- end -}}

{{/* Egress to the host of a URL, at its port. Takes url, port (where the URL names none) and peers. */}}
{{- define "headrace.urlEgress" -}}
{{- $ports := .peers.ports -}}
{{- with .url -}}
{{- $host := (urlParse .).host -}}
{{- $ports = append $ports (ternary ($host | splitList ":" | last | int) $.port (contains ":" $host)) -}}
{{- end -}}
{{- include "headrace.egress" (dict "to" .peers.to "ports" $ports) -}}
{{- end -}}

{{- define "headrace.policy" -}}
{{- if .root.Values.networkPolicy.enabled -}}
{{- $policy := .root.Values.networkPolicy -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "headrace.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - {protocol: TCP, port: metrics}
      from:
        {{- toYaml $policy.monitoring | nindent 8 }}
    # `helm test` asks every service how it is; the job that applies pipelines calls the registry.
    - ports:
        - {protocol: TCP, port: metrics}
        {{- if .facts.grpcPort }}
        - {protocol: TCP, port: grpc}
        {{- if .values.tls.existingSecret }}
        - {protocol: TCP, port: health}
        {{- end }}
        {{- end }}
      from:
        - podSelector:
            matchLabels:
              {{- include "headrace.selectorLabels" (dict "root" .root "component" "") | nindent 14 }}
            matchExpressions:
              - {key: app.kubernetes.io/component, operator: In, values: [pipelines, test]}
    {{- if .facts.grpcPort }}
    - ports:
        - {protocol: TCP, port: grpc}
        {{- if dig "rest" "enabled" false .values }}
        - {protocol: TCP, port: rest}
        {{- end }}
      from:
        {{- toYaml (index $policy.clients .component) | nindent 8 }}
    {{- end }}
  egress:
    {{- include "headrace.kafkaEgress" .root | nindent 4 }}
    {{- if and .facts.store (not .root.Values.store.existingClaim) }}
    {{- include "headrace.egress" $policy.store | nindent 4 }}
    {{- end }}
    {{- if and .facts.redis (or .root.Values.redis.url .root.Values.redis.existingSecret) }}
    {{- include "headrace.urlEgress" (dict "url" .root.Values.redis.url "port" 6379 "peers" $policy.redis) | nindent 4 }}
    {{- end }}
    {{- with .root.Values.telemetry.otlpEndpoint }}
    {{- include "headrace.urlEgress" (dict "url" . "port" 4317 "peers" $policy.otlp) | nindent 4 }}
    {{- end }}
    {{- if dig "pods" "enabled" false .values }}
    {{- include "headrace.egress" $policy.kubernetes | nindent 4 }}
    {{- end }}
    {{- with include "headrace.registriesEgress" . | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if eq .component "inference" }}
    {{- with include "headrace.upstreamEgress" .root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
{{- end -}}
{{- end -}}
