{{/* Values that fit their schema and still cannot work together: refused, with what was expected and what came. */}}

{{- define "headrace.check" -}}
{{- include "headrace.checkKafka" .Values.kafka -}}
{{- include "headrace.checkStore" .Values.store -}}
{{- include "headrace.checkUpstream" . -}}
{{- include "headrace.checkRegistries" . -}}
{{- if .Values.networkPolicy.enabled -}}
{{- include "headrace.checkPorts" . -}}
{{- end -}}
{{- if contains "@" .Values.redis.url -}}
{{- fail "redis.url: expected no user and no password here; put the whole URL into a secret and name it in redis.existingSecret" -}}
{{- end -}}
{{- if and .Values.redis.url .Values.redis.existingSecret -}}
{{- fail "redis: expected url or existingSecret, got both" -}}
{{- end -}}
{{- range $what, $url := dict "redis.url" .Values.redis.url "telemetry.otlpEndpoint" .Values.telemetry.otlpEndpoint -}}
{{- if regexMatch ":[0-9]+$" (urlParse $url).host -}}
{{- include "headrace.checkPort" (dict "what" $what "address" (urlParse $url).host) -}}
{{- end -}}
{{- end -}}
{{- include "headrace.checkLabels" (dict "root" . "what" "telemetry.serviceMonitor.labels" "labels" .Values.telemetry.serviceMonitor.labels) -}}
{{- include "headrace.checkLabels" (dict "root" . "what" "telemetry.prometheusRule.labels" "labels" .Values.telemetry.prometheusRule.labels) -}}
{{- $registry := include "headrace.service" (dict "root" . "component" "model-registry") | fromYaml -}}
{{- if and .Values.gc.schedule $registry.tls.existingSecret (not .Values.applying.tls.existingSecret) -}}
{{- fail "applying.tls.existingSecret: expected a secret with the CA of the registry's certificate, because gc.schedule calls it through TLS, got none" -}}
{{- end -}}
{{- range $name, $pipeline := .Values.pipelines -}}
{{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" $name) -}}
{{- fail (printf "pipelines: expected names of lower-case letters, digits and inner hyphens, 63 at most, got %q" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $pipeline := .Values.pipelines -}}
{{- include "headrace.checkPipeline" (dict "root" $ "name" $name "pipeline" $pipeline) -}}
{{- end -}}
{{- include "headrace.checkLabels" (dict "root" . "what" "services.trainer.pods.labels" "labels" .Values.services.trainer.pods.labels) -}}
{{- range $component, $own := .Values.services -}}
{{- include "headrace.checkService" (dict "root" $ "component" $component) -}}
{{- end -}}
{{- end -}}

{{/* Takes what, the value's name, and address, which ends with a port. */}}
{{- define "headrace.checkPort" -}}
{{- $port := .address | splitList ":" | last -}}
{{- if or (gt (len $port) 5) (lt (int $port) 1) (gt (int $port) 65535) -}}
{{- fail (printf "%s: expected a port from 1 to 65535, got %q" .what .address) -}}
{{- end -}}
{{- end -}}

{{/* Takes root, name and pipeline. */}}
{{- define "headrace.checkPipeline" -}}
{{- $spec := default "" .pipeline.spec | fromYaml -}}
{{- if hasKey $spec "Error" -}}
{{- fail (printf "pipelines.%s.spec: expected a pipeline as YAML, got: %s" .name $spec.Error) -}}
{{- end -}}
{{- $named := dig "metadata" "name" "" $spec -}}
{{- if and .pipeline.spec (ne $named .name) -}}
{{- fail (printf "pipelines.%s.spec: expected metadata.name %s, as its key says, got %q" .name .name $named) -}}
{{- end -}}
{{- $topic := dig "stream" "topic" "" $spec -}}
{{- if not (or .pipeline.topic $topic) -}}
{{- fail (printf "pipelines.%s.topic: expected the topic of its producers, or a spec that names it, got neither" .name) -}}
{{- end -}}
{{- if and .pipeline.topic $topic (ne .pipeline.topic $topic) -}}
{{- fail (printf "pipelines.%s.topic: expected %s as in its spec, or nothing, got %s" .name $topic .pipeline.topic) -}}
{{- end -}}
{{- $registry := include "headrace.service" (dict "root" .root "component" "model-registry") | fromYaml -}}
{{- if and .pipeline.spec $registry.tls.existingSecret (not .root.Values.applying.tls.existingSecret) -}}
{{- fail (printf "applying.tls.existingSecret: expected a secret with the CA of the registry's certificate, because pipelines.%s.spec is applied through TLS, got none" .name) -}}
{{- end -}}
{{- end -}}

{{/* A rule of a network policy without ports lets everything out. Takes the root. */}}
{{- define "headrace.checkPorts" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $empty := list -}}
{{- if not (or .Values.store.existingClaim $policy.store.ports) -}}
{{- $empty = append $empty "store" -}}
{{- end -}}
{{- if and .Values.redis.existingSecret (not $policy.redis.ports) -}}
{{- $empty = append $empty "redis" -}}
{{- end -}}
{{- with $empty -}}
{{- fail (printf "networkPolicy.%s.ports: expected at least one, because a rule without ports opens all of them, got none" (first .)) -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkKafka" -}}
{{- if not (regexMatch "^[^:,\\s]+:[0-9]+(,[^:,\\s]+:[0-9]+)*$" .bootstrapServers) -}}
{{- fail (printf "kafka.bootstrapServers: expected host:port, or several separated by commas, got %q" .bootstrapServers) -}}
{{- end -}}
{{- range splitList "," .bootstrapServers -}}
{{- include "headrace.checkPort" (dict "what" "kafka.bootstrapServers" "address" .) -}}
{{- end -}}
{{- $sasl := hasPrefix "SASL_" .securityProtocol -}}
{{- if and $sasl (not (and .sasl.mechanism .sasl.existingSecret)) -}}
{{- fail (printf "kafka.sasl: expected mechanism and existingSecret with %s, got %q and %q" .securityProtocol .sasl.mechanism .sasl.existingSecret) -}}
{{- end -}}
{{- if and (not $sasl) (or .sasl.mechanism .sasl.existingSecret) -}}
{{- fail (printf "kafka.securityProtocol: expected SASL_SSL or SASL_PLAINTEXT because kafka.sasl is set, got %s" .securityProtocol) -}}
{{- end -}}
{{- if and .tls.existingSecret (not (hasSuffix "SSL" .securityProtocol)) -}}
{{- fail (printf "kafka.securityProtocol: expected SSL or SASL_SSL because kafka.tls is set, got %s" .securityProtocol) -}}
{{- end -}}
{{- if ne (empty .tls.certKey) (empty .tls.keyKey) -}}
{{- fail "kafka.tls: expected certKey and keyKey together, got one of them" -}}
{{- end -}}
{{- if eq (int .topics.replicationFactor) 0 -}}
{{- fail "kafka.topics.replicationFactor: expected at least 1, or -1 for the brokers' default, got 0" -}}
{{- end -}}
{{- if and (gt (int .topics.replicationFactor) 0) (gt (int .topics.minInsyncReplicas) (int .topics.replicationFactor)) -}}
{{- fail (printf "kafka.topics.minInsyncReplicas: expected at most replicationFactor (%v), got %v: nothing could be written" .topics.replicationFactor .topics.minInsyncReplicas) -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkStore" -}}
{{- if not (regexMatch "^(s3://[^/\\s]|file://)" .url) -}}
{{- fail (printf "store.url: expected s3://bucket or s3://bucket/folder, or file:///var/lib/headrace/objects with an existingClaim, got %q" .url) -}}
{{- end -}}
{{- $file := hasPrefix "file://" .url -}}
{{- $mounted := and (regexMatch "^file:///var/lib/headrace/objects(/|$)" .url) (not (contains "/.." .url)) -}}
{{- if and $file (not (and .existingClaim $mounted)) -}}
{{- fail (printf "store: expected file:///var/lib/headrace/objects and an existingClaim that every pod mounts there, got %q and %q" .url .existingClaim) -}}
{{- end -}}
{{- if and (not $file) .existingClaim -}}
{{- fail (printf "store.url: expected file:///var/lib/headrace/objects because store.existingClaim is set, got %q" .url) -}}
{{- end -}}
{{- end -}}

{{/* Labels of the chart's own find pods: another value would leave them alone. Takes root, what and labels. */}}
{{- define "headrace.checkLabels" -}}
{{- $own := include "headrace.labels" (dict "root" .root "component" "any") | fromYaml -}}
{{- range $label, $_ := .labels -}}
{{- if hasKey $own $label -}}
{{- fail (printf "%s: expected no label that the chart sets, got %s" $.what $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkService" -}}
{{- $facts := index (include "headrace.facts" .root | fromYaml) .component -}}
{{- $values := include "headrace.service" . | fromYaml -}}
{{- if and $facts.single (ne (int $values.replicas) 1) -}}
{{- fail (printf "services.%s.replicas: expected 1, got %v: a second one takes the first one's place and shares no work" .component $values.replicas) -}}
{{- end -}}
{{- if and $values.kafkaSecret (not (hasPrefix "SASL_" .root.Values.kafka.securityProtocol)) -}}
{{- fail (printf "services.%s.kafkaSecret: expected kafka.securityProtocol SASL_SSL or SASL_PLAINTEXT beside it, got %s" .component .root.Values.kafka.securityProtocol) -}}
{{- end -}}
{{- range $values.extraEnv -}}
{{- if hasPrefix "HEADRACE_" .name -}}
{{- fail (printf "services.%s.extraEnv: expected no variable of Headrace's own, got %s: use settings, or the value that sets it" $.component .name) -}}
{{- end -}}
{{- end -}}
{{- $own := include "headrace.environment" (dict "root" .root "component" .component "values" (omit $values "extraEnv") "facts" $facts) -}}
{{- $names := list -}}
{{- range concat ($own | fromYamlArray) $values.extraEnv -}}
{{- if has .name $names -}}
{{- fail (printf "services.%s.extraEnv: expected each variable once, and none that the chart sets, got %s" $.component .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- include "headrace.checkLabels" (dict "root" .root "what" (printf "services.%s.podLabels" .component) "labels" $values.podLabels) -}}
{{- $busy := addf $values.preStopSeconds (dig "drain_s" 0 $values.settings) -}}
{{- if le (float64 $values.terminationGracePeriodSeconds) $busy -}}
{{- fail (printf "services.%s.terminationGracePeriodSeconds: expected more than preStopSeconds and settings.drain_s together (%v), got %v: pods would be killed at work" .component $busy $values.terminationGracePeriodSeconds) -}}
{{- end -}}
{{- if and $facts.grpcPort $values.service.headless (ne $values.service.type "ClusterIP") -}}
{{- fail (printf "services.%s.service.headless: expected false beside the type %s, because a headless service has no address that it could publish, got true" .component $values.service.type) -}}
{{- end -}}
{{- $outside := and $facts.grpcPort (not $values.service.headless) (ne $values.service.type "ClusterIP") .root.Values.networkPolicy.enabled -}}
{{- $clients := get .root.Values.networkPolicy.clients .component -}}
{{- if and $outside $clients (not (contains "ipBlock" (toJson $clients))) -}}
{{- fail (printf "networkPolicy.clients.%s: expected an ipBlock, because callers through a %s come from outside the cluster, got pods only" .component $values.service.type) -}}
{{- end -}}
{{- range tuple "keda" "hpa" -}}
{{- $scaling := dig . (dict) $values -}}
{{- if and $scaling.enabled (lt (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- fail (printf "services.%s.%s.maxReplicas: expected at least minReplicas (%v), got %v" $.component . $scaling.minReplicas $scaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- $nodes := dig "nodes" 1 $values.settings | int -}}
{{- if and (dig "pods" "enabled" false $values) (gt $nodes 1) -}}
{{- fail (printf "services.%s.pods.enabled: expected false beside settings.nodes (%d): runs go to either" .component $nodes) -}}
{{- end -}}
{{- if and (dig "keda" "enabled" false $values) (contains "{pipeline}" $facts.lag.group) (not .root.Values.pipelines) -}}
{{- fail (printf "pipelines: expected at least one, because services.%s.keda scales on their lag, got none" .component) -}}
{{- end -}}
{{- end -}}
