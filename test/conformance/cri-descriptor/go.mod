module limpet/cri-descriptor

go 1.24

require k8s.io/cri-api v0.36.3
