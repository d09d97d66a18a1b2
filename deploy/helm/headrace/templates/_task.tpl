{{/* What runs once and ends: the jobs before and after an upgrade, the cron job, and the test. */}}

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

{{/* The pod template of a task that calls the registry as a client: root, component, the text of command, and files. */}}
{{- define "headrace.registryTask" -}}
{{- $tls := .root.Values.applying.tls -}}
{{- $registry := include "headrace.service" (dict "root" .root "component" "model-registry") | fromYaml -}}
{{- $address := printf "%s-model-registry:7020" (include "headrace.fullname" .root) -}}
{{- $env := list (dict "name" "HEADRACE_REGISTRY_ADDRESS" "value" $address) -}}
{{- $more := dict -}}
{{- if $registry.tls.existingSecret -}}
{{- $items := list (dict "key" $tls.caKey "path" "ca.crt") -}}
{{- $env = append $env (dict "name" "HEADRACE_TLS_CA_FILE" "value" "/etc/headrace/client/ca.crt") -}}
{{- with $tls.serverName -}}
{{- $env = append $env (dict "name" "HEADRACE_TLS_SERVER_NAME" "value" .) -}}
{{- end -}}
{{- if $registry.tls.clientCaKey -}}
{{- $items = append (append $items (dict "key" $tls.certKey "path" "tls.crt")) (dict "key" $tls.keyKey "path" "tls.key") -}}
{{- $env = append $env (dict "name" "HEADRACE_TLS_CERT_FILE" "value" "/etc/headrace/client/tls.crt") -}}
{{- $env = append $env (dict "name" "HEADRACE_TLS_KEY_FILE" "value" "/etc/headrace/client/tls.key") -}}
{{- end -}}
{{- $_ := set $more "mounts" (toYaml (list (dict "name" "client-tls" "mountPath" "/etc/headrace/client" "readOnly" true))) -}}
{{- $_ := set $more "volumes" (toYaml (list (dict "name" "client-tls" "secret" (dict "secretName" $tls.existingSecret "items" $items)))) -}}
{{- end -}}
{{- include "headrace.task" (merge (dict "env" (toYaml $env)) $more .) -}}
{{- end -}}

{{/* The shell command that waits for the registry. Takes the root. */}}
{{- define "headrace.registryAwaited" -}}
{{- $registry := include "headrace.service" (dict "root" . "component" "model-registry") | fromYaml -}}
{{- $asked := printf "grpc://%s-model-registry-metrics:%d" (include "headrace.fullname" .) (ternary 8003 7020 (not (empty $registry.tls.existingSecret))) -}}
/app/bin/python -m headrace_runtime.health_check --within 60 {{ $asked }}
{{- end -}}

{{/* What a task may reach: names, and the egress rules of its own. Ordinary policies come only after the first hooks, so it
     names all that it needs. Takes root, component, egress, and hook and weight where it is for one. */}}
{{- define "headrace.taskPolicy" -}}
{{- if .root.Values.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
  {{- if .hook }}
  annotations:
    {{- include "headrace.hook" . | nindent 4 }}
  {{- end }}
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
