{{/* Names, labels and the merged values of a service. */}}

{{/* Cut so that a StatefulSet's name has 52 characters at most: its pods' label `controller-revision-hash` holds the name
     and 11 more, and with more than 63 none of them could be made. */}}
{{- define "headrace.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 37 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full | trunc 37 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which objects find pods: they never change, so no value is part of them. Takes root and component. */}}
{{- define "headrace.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of every object. Takes root and component. */}}
{{- define "headrace.labels" -}}
{{ include "headrace.selectorLabels" . }}
app.kubernetes.io/part-of: headrace
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name, namespace and labels of an object. Takes root, component and, where it differs from the component, name. */}}
{{- define "headrace.metadata" -}}
name: {{ include "headrace.fullname" .root }}{{ with default .component .name }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "headrace.labels" . | nindent 2 }}
{{- end -}}

{{/* What tells Services with metrics from those with calls. */}}
{{- define "headrace.metricsLabel" -}}
headrace/serves: metrics
{{- end -}}

{{/* The values of one service as YAML: its own over the defaults. Takes root and component. */}}
{{- define "headrace.service" -}}
{{- $own := index .root.Values.services .component -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy $own)) -}}
{{- end -}}

{{/* What the code fixes about the services, as YAML. */}}
{{- define "headrace.facts" -}}
{{- .Files.Get "files/services.yaml" -}}
{{- end -}}

{{/* The image of a component. Takes root and component. A digest stands in place of the tag. */}}
{{- define "headrace.image" -}}
{{- $own := (include "headrace.service" . | fromYaml).image -}}
{{- $repository := default (printf "%s-%s" .root.Values.image.repository .component) $own.repository -}}
{{- if $own.digest -}}
{{- printf "%s@%s" $repository $own.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (coalesce $own.tag .root.Values.image.tag .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "headrace.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else -}}
{{- ternary (include "headrace.fullname" .) "default" .Values.serviceAccount.create -}}
{{- end -}}
{{- end -}}

{{/* A setting as text: numbers never in scientific notation. */}}
{{- define "headrace.text" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{/* The topic of a pipeline's producers: as it is given, or as its spec says. Takes the pipeline. */}}
{{- define "headrace.pipelineTopic" -}}
{{- $spec := default "" .spec | fromYaml -}}
{{- default (dig "stream" "topic" "" $spec) .topic -}}
{{- end -}}
