/**
 * What the local socket offers, in types that server and command share. It is HTTP/1.1 with JSON
 * over a unix socket that only root can reach; every answer has `kind`.
 *
 *   GET    /v1/status                         NodeReport
 *   GET    /v1/pods                           PodList
 *   GET    /v1/events[?namespace=&name=]      EventList
 *   GET    /v1/usage[?depth=node|pods|containers|volumes&maxAgeMs=N]    UsageReport, without rates
 *   POST   /v1/pods                           a manifest (YAML or JSON) -> ApplyReport
 *   DELETE /v1/pods/{namespace}/{name}[?gracePeriodSeconds=N]   DeleteReport
 *   errors                                    ErrorReport with a 4xx or 5xx status
 */
import type { EventRecord } from '../kube/event.ts';
import type { Pod, PodStatus } from '../kube/pod.ts';
import type { BoardCondition, Figure } from '../node/board.ts';
import type { UsageDepth, UsageReport } from '../node/usage.ts';
import type { Source } from '../pod/model.ts';

export type Health = 'ok' | 'degraded' | 'failed';

/** One thing that can be right or wrong with the node, with what to do about it. */
export type Finding = {
  readonly check: string;
  readonly health: Health;
  readonly message: string;
  /** What to do, when there is something to do. */
  readonly remedy?: string;
};

/** How the node stands with its cluster. Times are RFC 3339. */
export type ClusterReport = {
  readonly kubeconfig: string;
  /** `joining`: it has no credentials of its own yet. */
  readonly phase: 'joining' | 'connecting' | 'connected' | 'offline';
  readonly since: string;
  readonly server?: string;
  /** When the API server last took what it was told. */
  readonly lastHeard?: string;
  /** Whether our Node was there, since the agent has started. */
  readonly registered: boolean;
  readonly nodeUid?: string;
  /** Of the client certificate. */
  readonly certificateExpires?: string;
  /** What is wrong, when something is. */
  readonly message?: string;
};

/** How the relay stands with its broker. */
export type BrokerReport = {
  readonly broker: string;
  readonly connected: boolean;
  /** RFC 3339. */
  readonly since: string;
  /** Of MQTT. */
  readonly version?: string;
  /** Why it is not connected. */
  readonly message?: string;
  /** Events and statuses that are not told yet. */
  readonly waiting: number;
  /** Those that were dropped, since there were too many. */
  readonly dropped: number;
  /** Commands that are none. */
  readonly ignored: number;
};

/** How the board is, as far as it tells. */
export type BoardReport = {
  readonly facts: Readonly<Record<string, string>>;
  /** `True` is bad. The message is that of the last turn. */
  readonly conditions: readonly BoardCondition[];
  readonly figures: readonly Figure[];
  /** Files of the kernel that are there and can't be used, each with its path. */
  readonly troubles: readonly string[];
  /** Vendors' names of the parts; missing until it was taken, some minutes after the boot. */
  readonly inventory?: Readonly<Record<string, unknown>>;
};

export type NodeReport = {
  readonly kind: 'NodeReport';
  readonly nodeName: string;
  readonly version: string;
  /** RFC 3339. */
  readonly agentStartedAt: string;
  readonly bootId: string;
  readonly runtime: {
    readonly name: string;
    readonly version: string;
    readonly socket: string;
    readonly connected: boolean;
    readonly networkReady: boolean;
    readonly message?: string;
  };
  readonly cgroupDriver: string;
  /** Missing on a node that belongs to no cluster. */
  readonly cluster?: ClusterReport;
  /** Missing on a node that tells no broker. */
  readonly relay?: BrokerReport;
  readonly board: BoardReport;
  readonly store: { readonly path: string; readonly state: string; readonly message?: string };
  readonly pods: {
    readonly desired: number;
    readonly running: number;
    readonly pending: number;
    readonly succeeded: number;
    readonly failed: number;
  };
  readonly findings: readonly Finding[];
  /** Manifests that could not be taken, each with its error. */
  readonly manifestErrors: readonly { readonly path: string; readonly message: string }[];
  readonly pod: readonly PodReport[];
};

export type PodReport = {
  readonly kind: 'PodReport';
  readonly pod: Pod;
  readonly source: Source;
  readonly status: PodStatus;
  /** Set while it is being ended for good. */
  readonly deleting: boolean;
  /** Then: when its grace is over (RFC 3339), and how long that is. */
  readonly deletionTimestamp?: string;
  readonly deletionGracePeriodSeconds?: number;
  /** What `kubectl get pods` shows in the column STATUS (`CrashLoopBackOff`, `Init:0/1`, …). */
  readonly summary: string;
};

export type PodList = { readonly kind: 'PodList'; readonly items: readonly PodReport[] };
export type EventList = { readonly kind: 'EventList'; readonly items: readonly EventRecord[] };

export type ApplyReport = {
  readonly kind: 'ApplyReport';
  readonly items: readonly {
    readonly namespace: string;
    readonly name: string;
    readonly uid: string;
    /** `replaced`: the spec differs, the old pod ends first, then the new one starts. */
    readonly action: 'created' | 'unchanged' | 'replaced';
  }[];
};

export type DeleteReport = {
  readonly kind: 'DeleteReport';
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
};

/** `problems` names each thing that is wrong with a manifest. */
export type ErrorReport = {
  readonly kind: 'Error';
  readonly reason: 'Invalid' | 'NotFound' | 'Conflict' | 'TooLarge' | 'Unavailable' | 'Internal';
  readonly message: string;
  readonly problems?: readonly string[];
};

/** What the agent offers to the server. Failing with an `ApiError` gives its report. */
export type LocalApi = {
  status(): NodeReport;
  pods(): PodList;
  events(filter: { readonly namespace?: string; readonly name?: string }): EventList;
  /** Counters as they are, or were at most `maxAgeMs` ago. */
  usage(depth: UsageDepth, maxAgeMs: number): Promise<UsageReport>;
  /** Resolves when the pods are durable. */
  apply(manifest: string): Promise<ApplyReport>;
  /** Resolves when the deletion is durable, not when the pod is gone. */
  deletePod(namespace: string, name: string, graceSeconds?: number): Promise<DeleteReport>;
};

export class ApiError extends Error {
  readonly status: number;
  readonly report: ErrorReport;

  constructor(status: number, report: Omit<ErrorReport, 'kind'>) {
    super(report.message);
    this.name = 'ApiError';
    this.status = status;
    this.report = { kind: 'Error', ...report };
  }
}

/** Where the agent listens, below its run directory. */
export const SOCKET_NAME = 'limpet.sock';
