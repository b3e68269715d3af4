{{- define "penstock.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "penstock.hosts" -}}
{{- $name := include "penstock.name" . -}}
{{- $space := printf "%s.%s" $name .Release.Namespace -}}
{{- $own := list $name $space (printf "%s.svc" $space) (printf "%s.svc.cluster.local" $space) -}}
{{- join "," (concat $own .Values.hostsAllowed) -}}
{{- end }}

{{- define "penstock.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "penstock.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* What selects the pods of a role; never changed, because a Deployment's selector cannot be. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "penstock.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{/* The pods of one role; they differ in their arguments, their size and how they end. */}}
{{- define "penstock.pod" -}}
{{- $values := index .root.Values .role -}}
metadata:
  labels:
    {{- include "penstock.labels" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "penstock.serviceAccount" .root }}
  # Penstock never talks to the cluster. Workload identity brings a token of its own.
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .role }}
      image: {{ include "penstock.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: ["serve", "--role", {{ .role | quote }}]
      env:
        - name: PENSTOCK_DATA_DIR
          value: /var/lib/penstock
        - name: PENSTOCK_HOST
          value: "0.0.0.0"
        - name: PENSTOCK_PORT
          value: "8080"
        {{- if eq .role "api" }}
        # The pod's own network; TLS ends at the ingress.
        - name: PENSTOCK_ALLOW_PUBLIC_BIND
          value: "true"
        {{- with .root.Values.publicUrl }}
        - name: PENSTOCK_PUBLIC_URL
          value: {{ . | quote }}
        {{- end }}
        # What the cluster calls the Service, and what you add; any other Host is refused.
        - name: PENSTOCK_HOSTS_ALLOWED
          value: {{ include "penstock.hosts" .root | quote }}
        {{- end }}
        - name: PENSTOCK_SECRET
          valueFrom:
            secretKeyRef:
              name: {{ .root.Values.existingSecret }}
              key: secret
        - name: PENSTOCK_DATABASE_URL
          valueFrom:
            secretKeyRef:
              name: {{ .root.Values.existingSecret }}
              key: database-url
        - name: PENSTOCK_BLOBS_URL
          value: {{ .root.Values.blobsUrl | quote }}
        - name: PENSTOCK_VERTEX_PROJECT
          value: {{ .root.Values.vertex.project | quote }}
        - name: PENSTOCK_VERTEX_BUCKET
          value: {{ .root.Values.vertex.bucket | quote }}
        {{- range $name, $value := .root.Values.settings }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
      ports:
        - name: http
          containerPort: 8080
      startupProbe:
        httpGet:
          path: /healthz
          port: http
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet:
          path: /healthz
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- if and (eq .role "api") $values.preStopSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $values.preStopSeconds }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: ["ALL"]
      volumeMounts:
        - name: data
          mountPath: /var/lib/penstock
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: data
      emptyDir:
        sizeLimit: {{ $values.scratchSize }}
    - name: tmp
      emptyDir:
        sizeLimit: 1Gi
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
