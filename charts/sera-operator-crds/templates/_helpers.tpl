{{/* The labels of every object: the chart's own go before the user's. */}}
{{- define "sera-operator-crds.labels" -}}
{{- merge (dict
      "app.kubernetes.io/name" "sera"
      "app.kubernetes.io/component" "crds"
      "app.kubernetes.io/managed-by" .Release.Service
      "app.kubernetes.io/instance" .Release.Name
      "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version)
    ) (.Values.labels | default dict) | toYaml -}}
{{- end -}}
