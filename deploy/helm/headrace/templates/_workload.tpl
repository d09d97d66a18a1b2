{{/* The objects of one service. Each takes root, component, values and facts, and is empty where there is none. */}}

{{- define "headrace.workload" -}}
{{- $stateful := eq .facts.workload "StatefulSet" -}}
{{- $replicas := include "headrace.replicas" . -}}
apiVersion: apps/v1
kind: {{ .facts.workload }}
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
  {{- with .values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $replicas }}
  replicas: {{ . }}
  {{- end }}
  revisionHistoryLimit: 3
  # A pod that cannot reach what it needs ends within seconds: a rollout must not go on before.
  minReadySeconds: 10
  {{- if $stateful }}
  serviceName: {{ include "headrace.fullname" .root }}-{{ .component }}-metrics
  podManagementPolicy: Parallel
  updateStrategy: {type: RollingUpdate}
  {{- else }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  {{- end }}
  selector:
    matchLabels:
      {{- include "headrace.selectorLabels" . | nindent 6 }}
  template:
    {{- include "headrace.pod" . | nindent 4 }}
{{- end -}}

{{/* The number of pods, as text; empty to leave it to whoever has set it. A scaler's pods stay as many as they are: Helm
     would fall back to 1 where it alone had set the number before and now leaves it out. So it writes the live number,
     until an apply on the server sees that the scaler has set it since. A first installation starts with the scaler's
     least, which may be none. */}}
{{- define "headrace.replicas" -}}
{{- $live := dict -}}
{{- if or (dig "keda" "enabled" false .values) (dig "hpa" "enabled" false .values) -}}
{{- $live = lookup "apps/v1" .facts.workload .root.Release.Namespace (printf "%s-%s" (include "headrace.fullname" .root) .component) -}}
{{- end -}}
{{- if not $live -}}
{{- include "headrace.least" . -}}
{{- else -}}
{{- $applied := false -}}
{{- $others := false -}}
{{- range $live.metadata.managedFields -}}
{{- $applied = or $applied (and (eq .manager "helm") (eq .operation "Apply")) -}}
{{- $others = or $others (and (ne .manager "helm") (hasKey (dig "fieldsV1" "f:spec" (dict) .) "f:replicas")) -}}
{{- end -}}
{{- if not (and $applied $others) -}}
{{- $live.spec.replicas -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The least pods that a service has: its scaler's, or all of them. Takes its values. */}}
{{- define "headrace.least" -}}
{{- $least := .values.replicas -}}
{{- range tuple "keda" "hpa" -}}
{{- if dig . "enabled" false $.values -}}
{{- $least = (index $.values .).minReplicas -}}
{{- end -}}
{{- end -}}
{{- $least -}}
{{- end -}}

{{- define "headrace.address" -}}
{{- if .facts.grpcPort -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
  {{- with .values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if .values.service.headless }}
  clusterIP: None
  {{- else }}
  type: {{ .values.service.type }}
  {{- end }}
  selector:
    {{- include "headrace.selectorLabels" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ .facts.grpcPort }}, targetPort: grpc, appProtocol: {{ ternary "https" "kubernetes.io/h2c" (not (empty .values.tls.existingSecret)) }}}
    {{- if dig "rest" "enabled" false .values }}
    - {name: rest, port: 8000, targetPort: rest, appProtocol: {{ ternary "https" "http" (not (empty .values.tls.existingSecret)) }}}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* Metrics apart from calls: a load balancer for these must not publish those. Always headless, as the workload's own
     Service has to be. */}}
{{- define "headrace.metrics" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "headrace.metadata" (dict "root" .root "component" .component "name" (printf "%s-metrics" .component)) | nindent 2 }}
    {{- include "headrace.metricsLabel" . | nindent 4 }}
spec:
  clusterIP: None
  selector:
    {{- include "headrace.selectorLabels" . | nindent 4 }}
  ports:
    - {name: metrics, port: 8002, targetPort: metrics}
{{- end -}}

{{- define "headrace.disruption" -}}
{{- if .values.podDisruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "headrace.selectorLabels" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- define "headrace.hpa" -}}
{{- if dig "hpa" "enabled" false .values -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .facts.workload }}
    name: {{ include "headrace.fullname" .root }}-{{ .component }}
  minReplicas: {{ .values.hpa.minReplicas }}
  maxReplicas: {{ .values.hpa.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .values.hpa.targetCPUUtilizationPercentage }}}
{{- end -}}
{{- end -}}

{{- define "headrace.keda" -}}
{{- if dig "keda" "enabled" false .values -}}
{{- $lag := .facts.lag -}}
{{- $pipelines := ternary .root.Values.pipelines (dict "" (dict "topic" "")) (contains "{pipeline}" $lag.group) -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .facts.workload }}
    name: {{ include "headrace.fullname" .root }}-{{ .component }}
  minReplicaCount: {{ .values.keda.minReplicas }}
  maxReplicaCount: {{ .values.keda.maxReplicas }}
  pollingInterval: {{ .values.keda.pollingInterval }}
  cooldownPeriod: {{ .values.keda.cooldownPeriod }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown: {stabilizationWindowSeconds: {{ .values.keda.stabilizationWindowSeconds }}}
  triggers:
    {{- range $pipeline := keys $pipelines | sortAlpha }}
    {{- $source := include "headrace.pipelineTopic" (index $pipelines $pipeline) }}
    {{- range $topic := $lag.topics }}
    - type: kafka
      metadata:
        bootstrapServers: {{ $.root.Values.kafka.bootstrapServers | quote }}
        consumerGroup: {{ $lag.group | replace "{pipeline}" $pipeline }}
        topic: {{ $topic | replace "{pipeline}" $pipeline | replace "{source}" $source }}
        lagThreshold: {{ $.values.keda.lagThreshold | quote }}
        # A group that has committed nothing yet has everything before it.
        offsetResetPolicy: earliest
        {{- if hasPrefix "SASL_" $.root.Values.kafka.securityProtocol }}
        sasl: {{ include "headrace.kedaSasl" $.root }}
        {{- end }}
        {{- if hasSuffix "SSL" $.root.Values.kafka.securityProtocol }}
        tls: enable
        {{- end }}
      {{- if include "headrace.kedaSecrets" $.root }}
      authenticationRef: {name: {{ include "headrace.fullname" $.root }}-kafka}
      {{- end }}
    {{- end }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* The secrets by which KEDA reaches the brokers to see lags; empty where it needs none. Takes the root. */}}
{{- define "headrace.kedaSecrets" -}}
{{- with .Values.kafka -}}
{{- if hasPrefix "SASL_" .securityProtocol }}
- {parameter: username, name: {{ .sasl.existingSecret }}, key: {{ .sasl.usernameKey }}}
- {parameter: password, name: {{ .sasl.existingSecret }}, key: {{ .sasl.passwordKey }}}
{{- end }}
{{- if .tls.existingSecret }}
- {parameter: ca, name: {{ .tls.existingSecret }}, key: {{ .tls.caKey }}}
{{- if .tls.certKey }}
- {parameter: cert, name: {{ .tls.existingSecret }}, key: {{ .tls.certKey }}}
- {parameter: key, name: {{ .tls.existingSecret }}, key: {{ .tls.keyKey }}}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "headrace.kedaSasl" -}}
{{- get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") .Values.kafka.sasl.mechanism -}}
{{- end -}}
