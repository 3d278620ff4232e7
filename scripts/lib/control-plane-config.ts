// What the parts of a control plane are told: kubeadm's configuration, and the command lines, which
// are those that kubeadm gives to its static pods, save for ports, paths and what tests want to see.
import { join } from 'node:path';

export type Component =
  'etcd' | 'egress' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler';

/** Where the parts are and where they listen. */
export type Layout = Readonly<
  Record<'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler', string>
> & {
  readonly directory: string;
  /** Takes the sockets: a short path. */
  readonly sockets: string;
  readonly port: number;
  readonly etcdPort: number;
  readonly etcdPeerPort: number;
  /** How long certificates are good for, as Go writes it; a year unless told. */
  readonly signingDuration?: string;
};

/** The host, as virtual nodes see it. */
export const hostOfNodes = '10.0.2.2';

const services = '10.96.0.0/12';

/** Every request, who asked and what was decided, without the bodies. */
export const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{ level: Metadata }]
`;

export function egressSelection(layout: Layout): string {
  return `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
  - name: cluster
    connection:
      proxyProtocol: HTTPConnect
      transport: { uds: { udsName: ${egressSocket(layout)} } }
`;
}

function egressSocket(layout: Layout): string {
  return join(layout.sockets, 'egress.sock');
}

/** kubeadm's configuration of a cluster whose keys are in `pki`. */
export function kubeadmConfig(port: number, version: string, pki: string): string {
  return `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: { advertiseAddress: ${hostOfNodes}, bindPort: ${port} }
nodeRegistration:
  name: control-plane
  criSocket: unix:///run/containerd/containerd.sock
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: ${version}
certificatesDir: ${pki}
controlPlaneEndpoint: ${hostOfNodes}:${port}
networking: { serviceSubnet: ${services} }
apiServer: { certSANs: [127.0.0.1, localhost] }
# Both would need images from afar.
dns: { disabled: true }
proxy: { disabled: true }
`;
}

/** What everybody may read of a cluster: where it is and who has signed its key. */
export function clusterInfo(port: number, ca: Buffer): string {
  return `apiVersion: v1
kind: Config
clusters:
  - name: ""
    cluster:
      server: https://${hostOfNodes}:${port}
      certificate-authority-data: ${ca.toString('base64')}
`;
}

/** The command line of each part, its program first. */
export function commandLines(layout: Layout): Record<Component, readonly string[]> {
  const { directory } = layout;
  return {
    etcd: [layout.etcd, ...flags(etcdFlags(layout))],
    egress: [process.execPath, join(import.meta.dirname, 'egress.ts'), egressSocket(layout)],
    'kube-apiserver': [layout['kube-apiserver'], ...flags(apiServerFlags(layout))],
    'kube-controller-manager': [
      layout['kube-controller-manager'],
      ...flags(controllerManagerFlags(layout)),
    ],
    'kube-scheduler': [
      layout['kube-scheduler'],
      ...flags(clientFlags(join(directory, 'scheduler.conf'))),
    ],
  };
}

type Flags = Readonly<Record<string, string | number | boolean>>;

function flags(named: Flags): string[] {
  return Object.entries(named).map(([name, value]) => `--${name}=${value}`);
}

function etcdFlags({ directory, etcdPort, etcdPeerPort }: Layout): Flags {
  const own = `https://127.0.0.1:${etcdPort}`;
  const peer = `https://127.0.0.1:${etcdPeerPort}`;
  const pki = join(directory, 'pki', 'etcd');
  return {
    name: 'control-plane',
    'data-dir': join(directory, 'etcd'),
    // A test's cluster need not outlive a power cut, and the disk's time is the tests'.
    'unsafe-no-fsync': true,
    'listen-client-urls': own,
    'advertise-client-urls': own,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `control-plane=${peer}`,
    'client-cert-auth': true,
    'cert-file': join(pki, 'server.crt'),
    'key-file': join(pki, 'server.key'),
    'trusted-ca-file': join(pki, 'ca.crt'),
    'peer-client-cert-auth': true,
    'peer-cert-file': join(pki, 'peer.crt'),
    'peer-key-file': join(pki, 'peer.key'),
    'peer-trusted-ca-file': join(pki, 'ca.crt'),
  };
}

function apiServerFlags(layout: Layout): Flags {
  const { directory } = layout;
  const key = (name: string): string => join(directory, 'pki', name);
  return {
    'bind-address': '127.0.0.1',
    'secure-port': layout.port,
    'advertise-address': hostOfNodes,
    'service-cluster-ip-range': services,
    'authorization-mode': 'Node,RBAC',
    'enable-admission-plugins': 'NodeRestriction',
    'enable-bootstrap-token-auth': true,
    'allow-privileged': true,
    'audit-policy-file': join(directory, 'audit-policy.yaml'),
    'audit-log-path': join(directory, 'audit.log'),
    'egress-selector-config-file': join(directory, 'egress.yaml'),
    'kubelet-preferred-address-types': 'InternalIP,ExternalIP,Hostname',
    'etcd-servers': `https://127.0.0.1:${layout.etcdPort}`,
    'etcd-cafile': key('etcd/ca.crt'),
    'etcd-certfile': key('apiserver-etcd-client.crt'),
    'etcd-keyfile': key('apiserver-etcd-client.key'),
    'client-ca-file': key('ca.crt'),
    'tls-cert-file': key('apiserver.crt'),
    'tls-private-key-file': key('apiserver.key'),
    'kubelet-client-certificate': key('apiserver-kubelet-client.crt'),
    'kubelet-client-key': key('apiserver-kubelet-client.key'),
    'service-account-issuer': 'https://kubernetes.default.svc.cluster.local',
    'service-account-key-file': key('sa.pub'),
    'service-account-signing-key-file': key('sa.key'),
    'requestheader-allowed-names': 'front-proxy-client',
    'requestheader-client-ca-file': key('front-proxy-ca.crt'),
    'requestheader-username-headers': 'X-Remote-User',
    'requestheader-group-headers': 'X-Remote-Group',
    'requestheader-extra-headers-prefix': 'X-Remote-Extra-',
    'proxy-client-cert-file': key('front-proxy-client.crt'),
    'proxy-client-key-file': key('front-proxy-client.key'),
  };
}

function controllerManagerFlags({ directory, signingDuration }: Layout): Flags {
  const key = (name: string): string => join(directory, 'pki', name);
  return {
    ...clientFlags(join(directory, 'controller-manager.conf')),
    // Or it takes 5 s to start: each controller gets an account of its own first.
    'kube-api-qps': 200,
    'kube-api-burst': 400,
    controllers: '*,bootstrapsigner,tokencleaner',
    'cluster-name': 'kubernetes',
    'use-service-account-credentials': true,
    'root-ca-file': key('ca.crt'),
    'cluster-signing-cert-file': key('ca.crt'),
    'cluster-signing-key-file': key('ca.key'),
    ...(signingDuration !== undefined && {
      'cluster-signing-duration': signingDuration,
    }),
    'service-account-private-key-file': key('sa.key'),
  };
}

/** There is one of each, and nobody asks it. */
function clientFlags(kubeconfig: string): Flags {
  return { kubeconfig, 'leader-elect': false, 'secure-port': 0 };
}
