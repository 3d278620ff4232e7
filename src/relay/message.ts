/**
 * The messages of a node: their types, and what each may hold. This room is pure.
 *
 * Every time is in whole seconds since 1970 (`t`), by the node's clock. Sequence numbers (`q`) and
 * generations (`g`) only grow, over reboots too; both are below 2^53, and may have gaps.
 *
 * Version rule. The major version is in the topic (`limpet/v1/…`) and in `v` of the snapshot. A minor
 * version adds optional fields at the end of a record, nothing else; a reader ignores what it does
 * not know. Anything else, a new word in a list of words too, is a new major version, which a reader
 * refuses.
 */
import { record, type RecordShape, type Shape } from './shape.ts';

export const MAJOR = 1;
export const MINOR = 0;

/** Messages that are JSON whatever is configured: small, rare, and what other programs read. */
export const ALWAYS_JSON: ReadonlySet<MessageKind> = new Set(['state', 'ha']);

/** Retained, and the last will. */
export type State = {
  /** `leaving`: said by the node itself before it ends. */
  readonly s: 'online' | 'offline' | 'leaving';
  /** The session: this boot, this connection. The will bears the session that it belongs to. */
  readonly sid: string;
  readonly t: number;
  readonly why?: string;
};

/** Retained: the whole truth. */
export type Snap = {
  /** `1.0` */
  readonly v: string;
  /** The generation. */
  readonly g: number;
  readonly q: number;
  readonly t: number;
  readonly sid: string;
  readonly node: NodeFacts;
  readonly pods: readonly PodState[];
  readonly conditions: readonly Condition[];
};

/** What rarely changes. */
export type NodeFacts = {
  /** Of limpet. */
  readonly version: string;
  readonly arch?: string;
  readonly os?: string;
  readonly kernel?: string;
  readonly model?: string;
  readonly serial?: string;
  readonly cpus?: number;
  readonly memoryMB?: number;
  /** When the kernel started. */
  readonly bootedAt?: number;
  readonly address?: string;
};

export const PHASES = ['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'] as const;

export type PodState = {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly phase: (typeof PHASES)[number];
  /** Containers that are ready, of how many. Sidecars count, other init containers do not. */
  readonly ready: number;
  readonly containers: number;
  readonly restarts: number;
  /** Since when it is as it is. */
  readonly since: number;
  /** Why it is not as it should be: `CrashLoopBackOff`. */
  readonly reason?: string;
};

/** Of a pod in a delta: its events that are told with it. */
export type PodNews = PodState & {
  readonly events?: readonly PodEvent[];
};

/** An event within a delta, about the pod in whose row it is. See `eventsIn`. */
export type PodEvent = {
  /** Its number is the `q` of the delta less this, and its `id` is that number in base 36. */
  readonly back: number;
  readonly type: Evt['type'];
  readonly reason: string;
  readonly message: string;
  /** Seconds before the `t` of the delta; absent: 0. */
  readonly ago?: number;
  /** Absent: 1. */
  readonly count?: number;
};

export type Condition = {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly since: number;
  readonly reason?: string;
};

/** What has changed since the snapshot or delta before this one. */
export type Delta = {
  readonly q: number;
  readonly t: number;
  /** Numbers between the `q` of the snapshot or delta before this one and its own; absent: 0. */
  readonly skip?: number;
  /** Its `q` less this is the generation of the snapshot that it builds on. */
  readonly b?: number;
  /** Pods that are new, have changed or have events, each whole. */
  readonly pods?: readonly PodNews[];
  readonly conditions?: readonly Condition[];
  /** Uids of pods that are gone. */
  readonly gone?: readonly string[];
  /**
   * Tells of the past, sent after an outage: the last of each object. It changes nothing of what
   * is true now, and is no link of the chain.
   */
  readonly h?: 1;
};

export type Evt = {
  /** The same for the same event, also when it is sent again. */
  readonly id: string;
  readonly q: number;
  /** When it happened. */
  readonly t: number;
  /** It happened before the connection was made by which it is told: during an outage. */
  readonly h?: 1;
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly object: ObjectName;
  readonly message: string;
  readonly count: number;
};

export type ObjectName = {
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
};

/** Figures, in buckets (see deadband.ts). What a node can't measure is absent. */
export type Met = {
  readonly t: number;
  /** Seconds for which they mean something; they are told again when half of it is over. */
  readonly ttl: number;
  readonly cpuPercent?: number;
  readonly memoryPercent?: number;
  readonly temperatureC?: number;
  readonly diskPercent?: number;
  readonly load1?: number;
  readonly voltageV?: number;
  readonly cpuMHz?: number;
  readonly receivedKBps?: number;
  readonly sentKBps?: number;
  /** Written to the card since its first boot with limpet. */
  readonly writtenGB?: number;
};

/** The only command there is: send the snapshot again. */
export type Cmd = {
  readonly id: string;
  readonly do: 'rebirth';
};

/**
 * Retained, and always JSON: what Home Assistant shows of the node. It can't fold snapshots and
 * deltas, since a template of it sees one message, so this one has all of it in each.
 */
export type Ha = {
  readonly t: number;
  readonly pods: number;
  /** Pods that run with all their containers ready, or have succeeded. */
  readonly podsReady: number;
  readonly temperatureC?: number;
  readonly voltageV?: number;
  readonly diskPercent?: number;
  readonly underVoltage?: Switch;
  readonly throttled?: Switch;
  readonly storageWorn?: Switch;
  readonly storageReadOnly?: Switch;
};

/** Home Assistant's words for yes and no. */
export type Switch = 'ON' | 'OFF';

export type Messages = {
  readonly state: State;
  readonly snap: Snap;
  readonly delta: Delta;
  readonly evt: Evt;
  readonly met: Met;
  readonly cmd: Cmd;
  readonly ha: Ha;
};

export type MessageKind = keyof Messages;

/**
 * How each is published. A delta is retained, so that who comes late sees that the snapshot is not
 * the newest, and asks for one; a delta with `h` is not.
 */
export const DELIVERY = {
  state: { qos: 1, retain: true },
  snap: { qos: 1, retain: true },
  delta: { qos: 1, retain: true },
  evt: { qos: 1, retain: false },
  met: { qos: 0, retain: false },
  cmd: { qos: 1, retain: false },
  ha: { qos: 1, retain: true },
} as const satisfies Record<MessageKind, { readonly qos: 0 | 1; readonly retain: boolean }>;

/** A message of any kind has at most so many bytes; anything longer is not even looked at. */
export const MESSAGE_BYTES = 128 * 1024;

const COUNT = { kind: 'int', min: 0, max: Number.MAX_SAFE_INTEGER } as const;
const SMALL = { kind: 'int', min: 0, max: 2 ** 31 - 1 } as const;
const TIME = { kind: 'int', min: 0, max: 2 ** 40, doc: 'seconds since 1970' } as const;
const SID = { kind: 'text', max: 64, doc: 'boot and session' } as const;
const NAME = { kind: 'text', max: 253 } as const;
const WORD = { kind: 'text', max: 64 } as const;
const TEXT = { kind: 'text', max: 1024 } as const;
const PERCENT = { kind: 'number', min: 0, max: 100 } as const;
const AMOUNT = { kind: 'number', min: 0, max: 1e12 } as const;
const CELSIUS = { kind: 'number', min: -273, max: 1000 } as const;
const VOLT = { kind: 'number', min: 0, max: 1000 } as const;
const SWITCH = { kind: 'word', words: ['ON', 'OFF'] } as const;
const UID = { kind: 'uid' } as const;
const MAX_PODS = 1000;
const MAX_CONDITIONS = 100;
const MAX_EVENTS = 100;
const EVENT_TYPE = { kind: 'word', words: ['Normal', 'Warning'] } as const;

const optional = <S extends Shape>(shape: S) => ({ ...shape, optional: true }) as const;

/** Words that mostly say why: never more of them, and never in another order. */
const REASON = {
  kind: 'term',
  max: 64,
  words: [
    ...['BackOff', 'CrashLoopBackOff', 'Created', 'Started', 'Pulled', 'Killing', 'Unhealthy'],
    ...['Failed', 'Error', 'Completed', 'OOMKilled', 'ContainerCreating', 'PodInitializing'],
    ...['ErrImagePull', 'ImagePullBackOff', 'Terminating', 'NotReady', 'SandboxChanged'],
    ...['FailedMount', 'FailedCreatePodSandBox', 'ContainerStatusUnknown', 'NodePowerLoss'],
    ...['NodeOffline', 'DeadlineExceeded'],
  ],
} as const;

const NODE = record<NodeFacts>('map', {
  version: WORD,
  arch: optional(WORD),
  os: optional(NAME),
  kernel: optional(NAME),
  model: optional(NAME),
  serial: optional(WORD),
  cpus: optional(SMALL),
  memoryMB: optional(SMALL),
  bootedAt: optional(TIME),
  address: optional(WORD),
});

const POD_FIELDS = {
  uid: UID,
  namespace: NAME,
  name: NAME,
  phase: { kind: 'word', words: PHASES },
  ready: SMALL,
  containers: SMALL,
  restarts: SMALL,
  since: TIME,
  reason: optional(REASON),
} as const;

const POD = record<PodState>('row', POD_FIELDS);

const POD_EVENT = record<PodEvent>('row', {
  back: { ...SMALL, doc: 'its number is the q of the delta less this' },
  type: EVENT_TYPE,
  reason: REASON,
  message: TEXT,
  ago: optional({ ...SMALL, doc: 'seconds before the delta; absent: 0' }),
  count: optional({ ...SMALL, doc: 'absent: 1' }),
});

const POD_NEWS = record<PodNews>('row', {
  ...POD_FIELDS,
  events: optional({ kind: 'list', of: POD_EVENT, max: MAX_EVENTS }),
});

const CONDITION = record<Condition>('row', {
  type: WORD,
  status: { kind: 'word', words: ['False', 'True', 'Unknown'] },
  since: TIME,
  reason: optional(WORD),
});

const OBJECT = record<ObjectName>('row', {
  kind: WORD,
  name: NAME,
  namespace: optional(NAME),
  uid: optional(UID),
});

const PODS = { kind: 'list', of: POD, max: MAX_PODS } as const;
const NEWS = { kind: 'list', of: POD_NEWS, max: MAX_PODS } as const;
const CONDITIONS = { kind: 'list', of: CONDITION, max: MAX_CONDITIONS } as const;

/** What each message may hold. A new field goes to the end of its record. */
export const SHAPES = {
  state: record<State>('map', {
    s: { kind: 'word', words: ['online', 'offline', 'leaving'] },
    sid: SID,
    t: TIME,
    why: optional(TEXT),
  }),
  snap: record<Snap>('map', {
    v: { kind: 'text', max: 16, doc: 'version of the format: major.minor' },
    g: { ...COUNT, doc: 'generation' },
    q: COUNT,
    t: TIME,
    sid: SID,
    node: NODE,
    pods: PODS,
    conditions: CONDITIONS,
  }),
  delta: record<Delta>('map', {
    q: COUNT,
    t: TIME,
    skip: optional({ ...COUNT, doc: 'numbers since the q of the message before; absent: 0' }),
    b: optional({ ...COUNT, doc: 'q less this: generation of the snapshot that it builds on' }),
    pods: optional(NEWS),
    conditions: optional(CONDITIONS),
    gone: optional({ kind: 'list', of: UID, max: MAX_PODS, doc: 'uids' }),
    h: optional({ kind: 'flag', doc: 'tells of the past' }),
  }),
  evt: record<Evt>('map', {
    id: WORD,
    q: COUNT,
    t: TIME,
    h: optional({ kind: 'flag', doc: 'told late' }),
    type: EVENT_TYPE,
    reason: REASON,
    object: OBJECT,
    message: TEXT,
    count: SMALL,
  }),
  met: record<Met>('map', {
    t: TIME,
    ttl: { ...SMALL, doc: 'seconds' },
    cpuPercent: optional(PERCENT),
    memoryPercent: optional(PERCENT),
    temperatureC: optional(CELSIUS),
    diskPercent: optional(PERCENT),
    load1: optional(AMOUNT),
    voltageV: optional(VOLT),
    cpuMHz: optional(AMOUNT),
    receivedKBps: optional(AMOUNT),
    sentKBps: optional(AMOUNT),
    writtenGB: optional(AMOUNT),
  }),
  cmd: record<Cmd>('map', {
    id: WORD,
    do: { kind: 'word', words: ['rebirth'] },
  }),
  ha: record<Ha>('map', {
    t: TIME,
    pods: SMALL,
    podsReady: SMALL,
    temperatureC: optional(CELSIUS),
    voltageV: optional(VOLT),
    diskPercent: optional(PERCENT),
    underVoltage: optional(SWITCH),
    throttled: optional(SWITCH),
    storageWorn: optional(SWITCH),
    storageReadOnly: optional(SWITCH),
  }),
} as const satisfies Record<MessageKind, RecordShape>;
