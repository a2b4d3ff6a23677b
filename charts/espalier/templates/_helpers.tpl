{{/* Names, labels and small texts that several templates share. Makes no objects. */}}

{{- define "espalier.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "espalier.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "espalier.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "espalier.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Cluster-scoped names carry the namespace, so that two releases of one name do not meet. */}}
{{- define "espalier.clusterName" -}}
{{- if eq (include "espalier.fullname" .) .Release.Namespace -}}
{{- include "espalier.fullname" . -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace (include "espalier.fullname" .) -}}
{{- end -}}
{{- end }}

{{- define "espalier.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "espalier.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name: is empty, expected the name of a ServiceAccount because serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "espalier.selectorLabels" -}}
app.kubernetes.io/name: {{ include "espalier.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Pods carry no chart version: a new chart with the same pod must not restart the operator. */}}
{{- define "espalier.podLabels" -}}
{{ include "espalier.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with merge (deepCopy .Values.podLabels) .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "espalier.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "espalier.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "espalier.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- $name := .Values.image.repository -}}
{{- if $registry -}}
{{- $name = printf "%s/%s" $registry $name -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* Subjects of every binding. */}}
{{- define "espalier.subjects" -}}
- kind: ServiceAccount
  name: {{ include "espalier.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* "yes" where a PodMonitor is to be rendered, empty where not; refuses when it must exist and does not. */}}
{{- define "espalier.podMonitors" -}}
{{- $known := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
{{- if or $known (eq .Values.metrics.renderMode "alwaysRender") -}}
yes
{{- else if eq .Values.metrics.renderMode "failIfMissing" -}}
{{- fail "metrics.renderMode: is failIfMissing and the cluster does not serve monitoring.coreos.com/v1; install the Prometheus operator or choose skipIfMissing" -}}
{{- end -}}
{{- end }}

{{/* Refuses combinations that the schema cannot see. Prints nothing. */}}
{{- define "espalier.validate" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.operator.leaderElection.enabled) -}}
{{- fail (printf "operator.leaderElection.enabled: is false with %d replicas, expected true, or replicas: 1; two operators without a Lease both write the same route" (int .Values.replicas)) -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.prometheusSecrets -}}
{{- if not .names -}}
{{- fail (printf "prometheusSecrets: names of namespace %s is empty, expected at least one; an empty list would allow every Secret" .namespace) -}}
{{- end -}}
{{- if hasKey $seen .namespace -}}
{{- fail (printf "prometheusSecrets: namespace %s is there twice, expected one entry with all names" .namespace) -}}
{{- end -}}
{{- if and $.Values.watchNamespaces (not (has .namespace $.Values.watchNamespaces)) -}}
{{- fail (printf "prometheusSecrets: namespace %s is not in watchNamespaces, and policies are read only there" .namespace) -}}
{{- end -}}
{{- $_ := set $seen .namespace true -}}
{{- end -}}
{{- end }}
