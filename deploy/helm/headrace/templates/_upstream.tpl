{{/* What inference is told of servers that have models of language, and where it finds keys and adapters. All take the
     root, and are empty where there is none. */}}

{{- define "headrace.upstreamHosts" -}}
{{- $hosts := .Values.upstream.hosts -}}
{{- if .Values.upstream.vllm.enabled -}}
{{- $hosts = append $hosts (printf "%s-upstream:8000" (include "headrace.fullname" .)) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end -}}

{{- define "headrace.upstreamEnvironment" -}}
{{- with include "headrace.upstreamHosts" . -}}
- name: HEADRACE_UPSTREAM_HOSTS
  value: {{ . | quote }}
{{- end }}
{{- if .Values.upstream.keysSecret }}
- name: HEADRACE_UPSTREAM_KEYS_DIR
  value: /etc/headrace/upstream
{{- end }}
{{- if .Values.upstream.adaptersClaim }}
- name: HEADRACE_UPSTREAM_ADAPTERS_DIR
  value: /var/lib/headrace/adapters
{{- end }}
{{- end -}}

{{- define "headrace.upstreamMounts" -}}
{{- if .Values.upstream.keysSecret }}
- {name: upstream-keys, mountPath: /etc/headrace/upstream, readOnly: true}
{{- end }}
{{- if .Values.upstream.adaptersClaim }}
- {name: adapters, mountPath: /var/lib/headrace/adapters}
{{- end }}
{{- end -}}

{{- define "headrace.upstreamVolumes" -}}
{{- with .Values.upstream.keysSecret }}
- name: upstream-keys
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .Values.upstream.adaptersClaim }}
- name: adapters
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- end -}}

{{/* Egress of inference to these servers. */}}
{{- define "headrace.upstreamEgress" -}}
{{- if .Values.upstream.vllm.enabled }}
- ports:
    - {protocol: TCP, port: 8000}
  to:
    - podSelector:
        matchLabels:
          {{- include "headrace.selectorLabels" (dict "root" . "component" "upstream") | nindent 10 }}
{{- end }}
{{- if .Values.upstream.hosts }}
{{- $ports := list -}}
{{- range .Values.upstream.hosts -}}
{{- $ports = append $ports (splitList ":" . | last | int) -}}
{{- end }}
{{ include "headrace.egress" (dict "to" .Values.networkPolicy.upstream.to "ports" $ports) }}
{{- end }}
{{- end -}}

{{- define "headrace.checkUpstream" -}}
{{- range .Values.upstream.hosts -}}
{{- if not (regexMatch "^[^:,/\\s]+:[0-9]+$" .) -}}
{{- fail (printf "upstream.hosts: expected host:port, got %q" .) -}}
{{- end -}}
{{- include "headrace.checkPort" (dict "what" "upstream.hosts" "address" .) -}}
{{- end -}}
{{- with .Values.upstream.vllm -}}
{{- if and .enabled (not .model) -}}
{{- fail "upstream.vllm.model: expected a folder below /models or the name of a model, got nothing" -}}
{{- end -}}
{{- if and .enabled (ne (mod (mul (int .tensorParallel) (int .pipelineParallel)) (int .nodes)) 0) -}}
{{- fail (printf "upstream.vllm.nodes: expected a divisor of tensorParallel times pipelineParallel (%d), got %v" (mul (int .tensorParallel) (int .pipelineParallel)) .nodes) -}}
{{- end -}}
{{- if and .enabled .key (not $.Values.upstream.keysSecret) -}}
{{- fail "upstream.keysSecret: expected the secret that has upstream.vllm.key, got none" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pods of vLLM. Takes root, name, rank (of the first pod) and pods: `first` answers, the others compute along. */}}
{{- define "headrace.vllm" -}}
{{- $values := .root.Values.upstream.vllm -}}
{{- $full := include "headrace.fullname" .root -}}
{{- $one := dict "root" .root "component" .component "name" .component -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "headrace.metadata" $one | nindent 2 }}
spec:
  replicas: {{ .pods }}
  serviceName: {{ $full }}-upstream-nodes
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "headrace.selectorLabels" $one | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "headrace.labels" $one | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      securityContext:
        {{- include "headrace.podSecurityContext" $values.podSecurityContext | nindent 8 }}
      {{- with include "headrace.pullSecrets" .root }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with include "headrace.placement" $values | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: vllm
          image: {{ ternary (printf "%s@%s" $values.image.repository $values.image.digest) (printf "%s:%s" $values.image.repository $values.image.tag) (not (empty $values.image.digest)) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          securityContext:
            {{- include "headrace.containerSecurityContext" . | nindent 12 }}
          # The rank of a pod is its place among those of the StatefulSet, after the one that answers.
          command: [sh, -c, 'exec vllm serve "$@"{{ if gt (int $values.nodes) 1 }} --node-rank "$((FIRST + PLACE))"{{ end }}', vllm]
          args:
            {{- include "headrace.vllmArguments" . | nindent 12 }}
          env:
            - {name: HOME, value: /tmp}
            - {name: VLLM_NO_USAGE_STATS, value: "1"}
            {{- if gt (int $values.nodes) 1 }}
            - {name: FIRST, value: {{ .rank | quote }}}
            - name: PLACE
              valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}
            {{- end }}
            {{- if $values.lora.enabled }}
            - {name: VLLM_ALLOW_RUNTIME_LORA_UPDATING, value: "True"}
            {{- end }}
            {{- with $values.key }}
            - name: VLLM_API_KEY
              valueFrom: {secretKeyRef: {name: {{ $.root.Values.upstream.keysSecret }}, key: {{ . }}}}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- if not .rank }}
          ports:
            - {name: http, containerPort: 8000}
          startupProbe:
            httpGet: {path: /health, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: {{ divf $values.startupSeconds 10 | ceil | int }}
          livenessProbe:
            httpGet: {path: /health, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /health, port: http}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: shm, mountPath: /dev/shm}
            {{- if $values.modelsClaim }}
            - {name: models, mountPath: /models, readOnly: true}
            {{- end }}
            {{- if .root.Values.upstream.adaptersClaim }}
            - {name: adapters, mountPath: /var/lib/headrace/adapters, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: {{ $values.scratch }}}
        - name: shm
          emptyDir: {medium: Memory, sizeLimit: {{ $values.sharedMemory }}}
        {{- with $values.modelsClaim }}
        - name: models
          persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
        {{- end }}
        {{- with .root.Values.upstream.adaptersClaim }}
        - name: adapters
          persistentVolumeClaim: {claimName: {{ . }}}
        {{- end }}
{{- end -}}

{{- define "headrace.vllmArguments" -}}
{{- $values := .root.Values.upstream.vllm -}}
- {{ $values.model | quote }}
- --served-model-name={{ $values.servedName }}
- --tensor-parallel-size={{ $values.tensorParallel }}
- --pipeline-parallel-size={{ $values.pipelineParallel }}
{{- if gt (int $values.nodes) 1 }}
- --nnodes={{ $values.nodes }}
- --master-addr={{ include "headrace.fullname" .root }}-upstream-0.{{ include "headrace.fullname" .root }}-upstream-nodes
{{- end }}
{{- if .rank }}
- --headless
{{- else }}
- --host=0.0.0.0
- --port=8000
{{- end }}
{{- if $values.lora.enabled }}
- --enable-lora
- --max-loras={{ $values.lora.maxLoras }}
- --max-lora-rank={{ $values.lora.maxRank }}
{{- end }}
{{- range $values.args }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The pods that have one model together. Takes the root. */}}
{{- define "headrace.vllmPeers" -}}
- podSelector:
    matchLabels:
      {{- include "headrace.selectorLabels" (dict "root" . "component" "") | nindent 6 }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [upstream, upstream-nodes]}
{{- end -}}
