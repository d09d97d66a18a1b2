{{/* What runs once and ends: the jobs before and after an upgrade, and the test. */}}

{{/* The pod template of a task. Takes root, component and the texts of args, env, files (a ConfigMap's name, mounted at
     /etc/headrace/<component>), mounts and volumes. It runs in the registry's image. */}}
{{- define "headrace.task" -}}
{{- $defaults := .root.Values.defaults -}}
metadata:
  {{- include "headrace.podMetadata" (dict "root" .root "component" .component "values" $defaults) | nindent 2 }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "headrace.podSecurityContext" $defaults.podSecurityContext | nindent 4 }}
  {{- with include "headrace.pullSecrets" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "headrace.placement" $defaults | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "headrace.image" (dict "root" .root "component" "model-registry") }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command:
        {{- .command | nindent 8 }}
      # What it says last becomes the reason that `kubectl describe` gives.
      terminationMessagePolicy: FallbackToLogsOnError
      securityContext:
        {{- include "headrace.containerSecurityContext" . | nindent 8 }}
      env:
        - {name: HOME, value: /tmp}
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
      resources:
        requests: {cpu: 100m, memory: 128Mi}
        limits: {cpu: 500m, memory: 256Mi}
      volumeMounts:
        {{- if .files }}
        - {name: {{ .component }}, mountPath: /etc/headrace/{{ .component }}, readOnly: true}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    {{- if .files }}
    - name: {{ .component }}
      configMap: {name: {{ .files }}}
    {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* What a task may reach: names, and the egress rules of its own. Ordinary policies come only after the first hooks, so it
     names all that it needs. Takes root, component, hook, weight and egress. */}}
{{- define "headrace.taskPolicy" -}}
{{- if .root.Values.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
  annotations:
    {{- include "headrace.hook" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "headrace.selectorLabels" . | nindent 6 }}
  policyTypes: [Egress]
  egress:
    {{- include "headrace.dnsEgress" .root | nindent 4 }}
    {{- .egress | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* Annotations of a hook that goes when the hooks are through. Takes hook and weight. */}}
{{- define "headrace.hook" -}}
helm.sh/hook: {{ .hook }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* Annotations of a job. Its log says what was done, so it stays; Helm 4 prints it when the job fails. */}}
{{- define "headrace.jobHook" -}}
helm.sh/hook: {{ .hook }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation
helm.sh/hook-output-log-policy: hook-failed
{{- end -}}

{{/* How long a job may try. Its attempts end in good time, each with its reason: a job past its deadline loses its pods
     with their logs, and Helm waits for five minutes. */}}
{{- define "headrace.jobLimits" -}}
backoffLimit: 2
activeDeadlineSeconds: 240
ttlSecondsAfterFinished: 86400
{{- end -}}
