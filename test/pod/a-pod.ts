/** A pod as it is after parsing, with all defaults, to be varied. */
import type { Container, ObjectMeta, Pod, PodSpec } from '../../src/kube/pod.ts';

export function aContainer(changes: Partial<Container> = {}): Container {
  return {
    name: 'web',
    image: 'nginx',
    imagePullPolicy: 'IfNotPresent',
    env: [],
    ports: [],
    resources: { requests: {}, limits: {} },
    volumeMounts: [],
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    securityContext: {},
    stdin: false,
    stdinOnce: false,
    tty: false,
    ...changes,
  };
}

export function aPod(spec: Partial<PodSpec> = {}, metadata: Partial<ObjectMeta> = {}): Pod {
  return {
    metadata: { name: 'shop', namespace: 'default', uid: '1f0a-22', ...metadata },
    spec: {
      containers: [aContainer()],
      initContainers: [],
      volumes: [],
      restartPolicy: 'Always',
      terminationGracePeriodSeconds: 30,
      dnsPolicy: 'ClusterFirst',
      hostNetwork: false,
      hostPID: false,
      hostIPC: false,
      shareProcessNamespace: false,
      hostAliases: [],
      securityContext: {},
      ...spec,
    },
  };
}
