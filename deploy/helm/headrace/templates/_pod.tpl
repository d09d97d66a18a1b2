{{/* Pods: hardened alike, whoever runs in them. */}}

{{/* The pod's security context; meets the restricted Pod Security Standard. Takes the values of podSecurityContext. */}}
{{- define "headrace.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with index $ $key }}
{{ $key }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- if .fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "headrace.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Probes. A server tells by gRPC whether it is alive and whether it is ready; who has none answers when its metrics
     can be read, and ends by itself when its work hangs. Kubelets do not speak TLS: with it, health has a port of its
     own. Takes facts and values. */}}
{{- define "headrace.probes" -}}
{{- $alive := dict "httpGet" (dict "path" "/metrics" "port" "metrics") -}}
{{- $ready := $alive -}}
{{- with .facts.grpcPort -}}
{{- $port := ternary 8003 . (not (empty $.values.tls.existingSecret)) -}}
{{- $alive = dict "grpc" (dict "port" $port "service" "live") -}}
{{- $ready = dict "grpc" (dict "port" $port) -}}
{{- end -}}
startupProbe:
  {{- toYaml $alive | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ divf .values.startupSeconds 5 | ceil | int }}
livenessProbe:
  {{- toYaml $alive | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- toYaml $ready | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* Labels and annotations of a pod. Takes root, component and values. */}}
{{- define "headrace.podMetadata" -}}
labels:
  {{- include "headrace.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := .values.podAnnotations -}}
{{- if dig "pods" "enabled" false .values -}}
{{- $annotations = merge (dict "headrace/pods" (include "headrace.podsTemplate" .root | sha256sum)) $annotations -}}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where a pod may run and before which others; empty where anywhere. Takes the values of a service. */}}
{{- define "headrace.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with index $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the container reads the object store with, and where: sources of variables, mounts and volumes, each empty
     where there is none. Take the root. */}}
{{- define "headrace.storeKeys" -}}
{{- with .Values.store.existingSecret }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end -}}

{{- define "headrace.storeMounts" -}}
{{- if .Values.store.existingClaim }}
- {name: objects, mountPath: /var/lib/headrace/objects}
{{- end }}
{{- if .Values.store.caSecret }}
- {name: store-ca, mountPath: /etc/headrace/store, readOnly: true}
{{- end }}
{{- end -}}

{{- define "headrace.storeVolumes" -}}
{{- with .Values.store.existingClaim }}
- name: objects
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- with .Values.store.caSecret }}
- name: store-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end -}}

{{/* The pod template of a service. Takes root, component, values and facts. */}}
{{- define "headrace.pod" -}}
{{- $tls := and .facts.grpcPort .values.tls.existingSecret -}}
{{- $pods := dig "pods" "enabled" false .values -}}
{{- $redisCa := and .facts.redis .root.Values.redis.caSecret -}}
metadata:
  {{- include "headrace.podMetadata" . | nindent 2 }}
spec:
  serviceAccountName: {{ ternary (include "headrace.podsAccount" .root) (include "headrace.serviceAccountName" .root) $pods }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "headrace.podSecurityContext" .values.podSecurityContext | nindent 4 }}
  {{- with include "headrace.pullSecrets" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "headrace.placement" .values | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .values.topologyKeys }}
  topologySpreadConstraints:
    {{- range . }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "headrace.selectorLabels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with .values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "headrace.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext:
        {{- include "headrace.containerSecurityContext" . | nindent 8 }}
      env:
        {{- include "headrace.environment" . | nindent 8 }}
      {{- $storeKeys := ternary (include "headrace.storeKeys" .root | trim) "" (default false .facts.store) }}
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
        {{- with .facts.grpcPort }}
        - {name: grpc, containerPort: {{ . }}}
        {{- end }}
        {{- if dig "rest" "enabled" false .values }}
        - {name: rest, containerPort: 8000}
        {{- end }}
        {{- if $tls }}
        - {name: health, containerPort: 8003}
        {{- end }}
        - {name: metrics, containerPort: 8002}
      {{- include "headrace.probes" . | nindent 6 }}
      {{- with .values.preStopSeconds }}
      lifecycle:
        preStop: {sleep: {seconds: {{ . }}}}
      {{- end }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if .facts.workDir }}
        - {name: work, mountPath: /var/lib/headrace/work}
        {{- end }}
        {{- if .facts.store }}
        {{- with include "headrace.storeMounts" .root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- end }}
        {{- if $redisCa }}
        - {name: redis-ca, mountPath: /etc/headrace/redis, readOnly: true}
        {{- end }}
        {{- if $tls }}
        - {name: grpc-tls, mountPath: /etc/headrace/grpc, readOnly: true}
        {{- end }}
        {{- with include "headrace.kafkaMounts" .root }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- if $pods }}
        {{- include "headrace.podsMounts" .root | nindent 8 }}
        {{- end }}
        {{- with include "headrace.registriesMounts" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- if eq .component "inference" }}
        {{- with include "headrace.upstreamMounts" .root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- end }}
        {{- with include "headrace.personalMounts" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .values.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: {{ .values.scratch }}}
    {{- if .facts.workDir }}
    - name: work
      emptyDir: {sizeLimit: {{ .values.scratch }}}
    {{- end }}
    {{- if .facts.store }}
    {{- with include "headrace.storeVolumes" .root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- if $redisCa }}
    - name: redis-ca
      secret: {secretName: {{ .root.Values.redis.caSecret }}, items: [{key: ca.crt, path: ca.crt}]}
    {{- end }}
    {{- if $tls }}
    - name: grpc-tls
      secret:
        secretName: {{ .values.tls.existingSecret }}
        items:
          - {key: {{ .values.tls.certKey }}, path: tls.crt}
          - {key: {{ .values.tls.keyKey }}, path: tls.key}
          {{- with .values.tls.clientCaKey }}
          - {key: {{ . }}, path: client-ca.crt}
          {{- end }}
    {{- end }}
    {{- with include "headrace.kafkaVolumes" .root }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if $pods }}
    {{- include "headrace.podsVolumes" .root | nindent 4 }}
    {{- end }}
    {{- with include "headrace.registriesVolumes" . | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if eq .component "inference" }}
    {{- with include "headrace.upstreamVolumes" .root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with include "headrace.personalVolumes" . | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "headrace.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}
