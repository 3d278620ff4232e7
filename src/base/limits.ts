/** Every limit of the agent, in one table. Each is held by a test. */
export const LIMITS = {
  /** Bytes of one manifest, from a file or from `limpet apply`. */
  manifestBytes: 1024 * 1024,
  /** Pods in one manifest file or one `apply`. */
  podsPerManifest: 100,
  /** Files in the manifest directory that are looked at. */
  manifestFiles: 500,
  /** Files in the folder of drop-in configuration files. */
  configFiles: 100,
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
  /** Bytes of one file of the kernel about the board; the mounts of all pods are the most. */
  hardwareFileBytes: 1024 * 1024,
  /** Bytes of what a child of our own executable tells, as it is kept until the next boot. */
  childAnswerBytes: 64 * 1024,
  /** Events kept on the card. */
  events: 1000,
  /** Events kept for one pod. */
  eventsPerPod: 50,
  /** Bytes of the values of one config map or secret; the API server itself allows no more. */
  objectBytes: 1024 * 1024,
  /** Files of one volume of config maps, secrets and the like. */
  volumeFiles: 10_000,
  /**
   * Memory of such a volume for each of its sources: the old and the new files at once, each of
   * which takes whole pages.
   */
  volumeSourceBytes: 32 * 1024 * 1024,
  /** Bytes of a request's head on the kubelet's port: a command to exec is part of the path. */
  kubeletHeaderBytes: 64 * 1024,
  /** Connections to the kubelet's port. */
  kubeletConnections: 256,
  /** Of these, connections of clients that have not shown who they are yet; the oldest gives way. */
  kubeletStrangers: 48,
  /** Logs that are read or followed, execs, attaches and port forwards at the same time. */
  kubeletStreams: 128,
  /** Time for a TLS handshake, then for the head of a request. */
  kubeletHandshakeMs: 10_000,
  kubeletHeadersMs: 10_000,
  /** Time after which an open connection without a request is closed. */
  kubeletIdleMs: 90_000,
  /** Answers to "who is this?" and "may they?" that are remembered, each. */
  kubeletReviews: 1024,
  /** Bytes that the runtime's streaming server may say when it refuses a stream. */
  streamRefusalBytes: 16 * 1024,
  /** Rows of the relay's outbox and bytes of what they say, in memory and on the card. */
  outboxRows: 3000,
  outboxBytes: 1024 * 1024,
  /** Bytes of one packet from an MQTT broker. */
  mqttPacketBytes: 16 * 1024,
  /** From a broker to who reads a fleet: the longest message (128 KiB) and its topic. */
  mqttReaderPacketBytes: 130 * 1024,
  terminationMessageBytes: 4096,
  /** Of all containers of a pod together, in equal shares. */
  podTerminationMessageBytes: 12 * 1024,
  terminationLogBytes: 2048,
  terminationLogLines: 80,
} as const;
