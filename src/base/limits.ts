/** Every limit of the agent, in one table. Each is held by a test. */
export const LIMITS = {
  /** Bytes of one manifest, from a file or from `limpet apply`. */
  manifestBytes: 1024 * 1024,
  /** Pods in one manifest file or one `apply`. */
  podsPerManifest: 100,
  /** Files in the manifest directory that are looked at. */
  manifestFiles: 500,
  /** Nodes of a parsed manifest, aliases counted each time they are used. */
  manifestNodes: 20_000,
  manifestDepth: 64,
  /** Tokens of YAML, comments and line ends counted: some 8,000 lines. Each costs up to 15 µs. */
  manifestTokens: 65_536,
  /** Pods on this node; the kubelet's `maxPods`. */
  pods: 110,
  /** Image pulls at the same time. */
  parallelPulls: 2,
  /** Starts of sandboxes and containers at the same time, so that a batch is not in lockstep. */
  parallelStarts: 4,
  /** Bytes of one gRPC message from the runtime; containerd itself refuses more than 16 MiB. */
  criMessageBytes: 16 * 1024 * 1024,
  /** Bytes of one answer of the API server; an object has at most 1.5 MiB in etcd by default. */
  apiResponseBytes: 16 * 1024 * 1024,
  /** Bytes of one event of a watch. */
  apiEventBytes: 8 * 1024 * 1024,
  /** Objects of one list, over all its pages. */
  apiListedObjects: 10_000,
  /** Bytes of a kubeconfig, a certificate, a key or a token. */
  credentialBytes: 1024 * 1024,
  /** Bytes that a credential plugin may write. */
  execCredentialBytes: 256 * 1024,
  /** Bytes that are kept of what a probe or a hook is answered; the kubelet's limit. */
  probeOutputBytes: 10 * 1024,
  /** Events kept on the card. */
  events: 1000,
  /** Events kept for one pod. */
  eventsPerPod: 50,
  terminationMessageBytes: 4096,
  /** Of all containers of a pod together, in equal shares. */
  podTerminationMessageBytes: 12 * 1024,
  terminationLogBytes: 2048,
  terminationLogLines: 80,
} as const;
