{{/* The chart's name, as label and as part of names. */}}
{{- define "sera-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of every object: the release's, with the chart's where the release's does not have it already. 50 characters leave room for suffixes. */}}
{{- define "sera-operator.fullname" -}}
{{- $name := include "sera-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of objects that belong to the cluster: two releases in two namespaces must not share them. */}}
{{- define "sera-operator.clusterName" -}}
{{- $fullname := include "sera-operator.fullname" . -}}
{{- if eq $fullname .Release.Namespace -}}{{ $fullname }}{{- else -}}{{ printf "%s-%s" .Release.Namespace $fullname }}{{- end -}}
{{- end -}}

{{- define "sera-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sera-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "sera-operator.labels" -}}
{{- include "sera-operator.labelsWith" (dict "root" . "selector" "sera-operator.selectorLabels") -}}
{{- end -}}

{{/*
The labels of an object, each key once: those by which it is selected, which nobody writes over, before those of this object alone, of all objects, and
the chart's remaining ones: (dict "root" . "selector" TEMPLATE "labels" .Values.podLabels).
*/}}
{{- define "sera-operator.labelsWith" -}}
{{- $selector := include .selector .root | fromYaml -}}
{{- $chart := dict
      "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_")
      "app.kubernetes.io/version" .root.Chart.AppVersion
      "app.kubernetes.io/managed-by" .root.Release.Service
      "app.kubernetes.io/part-of" "sera" -}}
{{- merge $selector (.labels | default dict) (.root.Values.commonLabels | default dict) $chart | toYaml -}}
{{- end -}}

{{- define "sera-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "sera-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "sera-operator.leaseName" -}}
{{- .Values.leaderElection.leaseName | default (include "sera-operator.fullname" .) -}}
{{- end -}}

{{/* An image's reference: (dict "root" . "image" .Values.images.operator). */}}
{{- define "sera-operator.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- $repository := printf "%s/%s" (trimSuffix "/" $registry) .image.repository -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Where the self-test works: where the operator serves, and near it if it does so there. */}}
{{- define "sera-operator.testNamespace" -}}
{{- $served := .Values.watchNamespaces -}}
{{- $namespace := .Values.test.namespace | default (or (not $served) (has .Release.Namespace $served) | ternary .Release.Namespace (first $served)) -}}
{{- if and $served (not (has $namespace $served)) -}}
{{- fail (printf "test.namespace %s is not among watchNamespaces: nobody would work on the test's batch" $namespace) -}}
{{- end -}}
{{- $namespace -}}
{{- end -}}

{{/* Not those of the operator's pods: its Services, budgets and policies must not take the test's pod for one of them. */}}
{{- define "sera-operator.testSelectorLabels" -}}
app.kubernetes.io/name: {{ include "sera-operator.name" . | trunc 58 | trimSuffix "-" }}-test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "sera-operator.testLabels" -}}
{{- include "sera-operator.labelsWith" (dict "root" . "selector" "sera-operator.testSelectorLabels") -}}
{{- end -}}

{{/* What the test's pod needs is there before it, and goes when it has passed. */}}
{{- define "sera-operator.testAid" -}}
helm.sh/hook: test
helm.sh/hook-weight: "-1"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* The test's pod stays for its log, until the next test; where helm reads the log before it deletes, it goes when it has passed. */}}
{{- define "sera-operator.testPodPolicy" -}}
before-hook-creation{{ if semverCompare ">=4.1.0-0" .Capabilities.HelmVersion.Version }},hook-succeeded{{ end }}
{{- end -}}

{{/* Whom a pod asks that speaks with the API server alone. */}}
{{- define "sera-operator.dnsAndApiServer" -}}
# DNS: in the cluster, and on the node for those that run a cache there; 5353 is where OpenShift's servers listen behind their Service.
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
    - {protocol: UDP, port: 5353}
    - {protocol: TCP, port: 5353}
# The API server.
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* The port of an address: the one that it names, or else its scheme's. */}}
{{- define "sera-operator.portOf" -}}
{{- $url := urlParse . -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}

{{/* Who may ask the pods of runs, and where everything is that they ask: a file for the operator. */}}
{{- define "sera-operator.networkRules" -}}
askers:
  - namespaceSelector:
      matchLabels: {kubernetes.io/metadata.name: {{ .Release.Namespace }}}
    podSelector:
      matchLabels: {{- include "sera-operator.selectorLabels" . | nindent 8 }}
  {{- if .Values.networkPolicy.metricsFrom }}
  {{- toYaml .Values.networkPolicy.metricsFrom | nindent 2 }}
  {{- else }}
  - namespaceSelector: {}
  {{- end }}
outside: {{- toYaml .Values.runNetworkPolicy.outside | nindent 2 }}
{{- end -}}

{{/* What the operator may do in a namespace that it serves. Roles and the ClusterRole share it; docs/security.md explains each line. */}}
{{- define "sera-operator.servedRules" -}}
- apiGroups: [sera.dev]
  resources: [specializationruns, rolloutbatches]
  verbs: [get, list, watch]
- apiGroups: [sera.dev]
  resources: [specializationruns/status, rolloutbatches/status]
  verbs: [patch]
# Clusters with OwnerReferencesPermissionEnforcement (OpenShift) ask for this before a child may block its owner's deletion.
- apiGroups: [sera.dev]
  resources: [specializationruns/finalizers, rolloutbatches/finalizers]
  verbs: [update]
# The finalizer of one whose data goes with it. There is no narrower right: a custom resource has no subresource for it.
- apiGroups: [sera.dev]
  resources: [specializationruns, rolloutbatches]
  verbs: [patch]
# A run makes batches and removes those that it has counted; it never changes what one says.
- apiGroups: [sera.dev]
  resources: [rolloutbatches]
  verbs: [create, delete]
# The rehearsal teacher and the student of a run: applied, which creates or patches.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, get, list, watch, patch, delete]
# A teacher whose copies are spread over nodes, in clusters that have this kind.
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [create, get, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, watch, delete]
# Deleted: the pods of a suspended run's Job, which would otherwise have as long as a large checkpoint takes.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
# Whom the pods of a run may reach, and who may reach them: applied.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, get, patch]
# The defaults that a run was started with, one immutable ConfigMap a run.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, get]
# Written of runs and batches; read where a Job has no pods, since only an Event says which quota or policy refused them.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch, get, list]
{{- end -}}
