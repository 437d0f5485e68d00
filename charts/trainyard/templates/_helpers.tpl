{{/* Name of what belongs to the operator: it ends in -operator, and is a label. */}}
{{- define "trainyard.operator" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- printf "%s-operator" ($full | trunc 50 | trimSuffix "-") -}}
{{- end }}

{{- define "trainyard.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "trainyard.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* What the Deployment and its policies select. Policies of jobs let pods of this name ask for progress. */}}
{{- define "trainyard.selector" -}}
app.kubernetes.io/name: trainyard-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "trainyard.labels" -}}
{{- include "trainyard.withLabels" (list . dict) -}}
{{- end }}

{{/* Labels of the chart, besides others that may not replace them: (list . others) */}}
{{- define "trainyard.withLabels" -}}
{{- $root := index . 0 -}}
{{- $own := include "trainyard.selector" $root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own (index . 1) $root.Values.commonLabels) -}}
{{- end }}

{{/* An image of the chart's version, unless its values say otherwise: (list . values) */}}
{{- define "trainyard.image" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $root.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}
