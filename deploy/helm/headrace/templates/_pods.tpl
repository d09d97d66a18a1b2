{{/* Runs in pods of their own: what the trainer makes JobSets of, and what it may do. */}}

{{/* The values of such pods: the trainer's, and beside or instead what stands in its `pods`. Takes the root. */}}
{{- define "headrace.podsValues" -}}
{{- $trainer := include "headrace.service" (dict "root" . "component" "trainer") | fromYaml -}}
{{- toYaml (mergeOverwrite (omit $trainer "pods") $trainer.pods) -}}
{{- end -}}

{{/* The account that may make JobSets. Takes the root. */}}
{{- define "headrace.podsAccount" -}}
{{- $own := .Values.services.trainer.pods.serviceAccount -}}
{{- if $own -}}
{{- $own -}}
{{- else -}}
{{- ternary (printf "%s-trainer" (include "headrace.fullname" .)) (include "headrace.serviceAccountName" .) .Values.serviceAccount.create -}}
{{- end -}}
{{- end -}}

{{/* What the trainer is told of them. Takes `services.trainer.pods`. */}}
{{- define "headrace.podsEnvironment" -}}
- name: HEADRACE_PODS_TEMPLATE
  value: /etc/headrace/pods/template.json
- name: HEADRACE_PODS_PROCESSES
  value: {{ .processes | quote }}
- name: HEADRACE_PODS_FROM
  value: {{ .from | quote }}
- name: HEADRACE_PODS_PATIENCE_S
  value: {{ include "headrace.text" .patienceSeconds | quote }}
- name: HEADRACE_PODS_OWNER
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: HEADRACE_PODS_ACCOUNT
  value: /etc/headrace/account
{{- end -}}

{{- define "headrace.podsMounts" -}}
- {name: pods, mountPath: /etc/headrace/pods, readOnly: true}
- {name: account, mountPath: /etc/headrace/account, readOnly: true}
{{- end -}}

{{/* The template, and a token of the account: the trainer is the only pod that gets one. */}}
{{- define "headrace.podsVolumes" -}}
- name: pods
  configMap: {name: {{ include "headrace.fullname" . }}-pods}
- name: account
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end -}}

{{/* What `headrace_trainer.core.pods.Template` reads. Takes the root. */}}
{{- define "headrace.podsTemplate" -}}
{{- $values := include "headrace.podsValues" . | fromYaml -}}
{{- $one := dict "root" . "component" "training" "values" $values -}}
{{- $pods := .Values.services.trainer.pods -}}
{{- $labels := include "headrace.labels" $one | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" "headrace-trainer" -}}
{{- with $pods.queue -}}
{{- $_ := set $labels "kueue.x-k8s.io/queue-name" . -}}
{{- end -}}
{{- $written := dict "name" (printf "%s-run" (include "headrace.fullname" .)) "ttlSeconds" (int $pods.ttlSeconds) -}}
{{- $_ := set $written "labels" (merge $labels $pods.labels) -}}
{{- $_ := set $written "annotations" $pods.annotations -}}
{{- $_ := set $written "pod" (include "headrace.runPod" $one | fromYaml) -}}
{{- toPrettyJson $written -}}
{{- end -}}

{{/* A pod in which a run trains: no probe asks it, and it has neither Kafka nor a token. Takes root, component, values. */}}
{{- define "headrace.runPod" -}}
metadata:
  {{- include "headrace.podMetadata" . | nindent 2 }}
spec:
  serviceAccountName: {{ include "headrace.serviceAccountName" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: Never
  terminationGracePeriodSeconds: 30
  securityContext:
    {{- include "headrace.podSecurityContext" .values.podSecurityContext | nindent 4 }}
  {{- with include "headrace.pullSecrets" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "headrace.placement" .values | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "headrace.image" (dict "root" .root "component" "trainer") }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [/app/bin/python, -m, headrace_trainer.pod]
      terminationMessagePolicy: FallbackToLogsOnError
      securityContext:
        {{- include "headrace.containerSecurityContext" . | nindent 8 }}
      env:
        {{- include "headrace.storeEnvironment" .root | nindent 8 }}
        {{- include "headrace.ownEnvironment" . | nindent 8 }}
      {{- $storeKeys := include "headrace.storeKeys" .root | trim }}
      {{- if or $storeKeys .values.envFrom }}
      envFrom:
        {{- with $storeKeys }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .values.envFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - {name: meeting, containerPort: 29500}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if .values.sharedMemory }}
        - {name: shared-memory, mountPath: /dev/shm}
        {{- end }}
        {{- with include "headrace.storeMounts" .root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: {{ .values.scratch }}}
    {{- with .values.sharedMemory }}
    - name: shared-memory
      emptyDir: {medium: Memory, sizeLimit: {{ . }}}
    {{- end }}
    {{- with include "headrace.storeVolumes" .root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
