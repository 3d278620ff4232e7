/**
 * What one pod is to the core: what is wanted, what has been seen, and the events and actions that
 * connect the two. `reduce` folds an event into `Seen`, `plan` compares `Want` with `Seen`.
 *
 * Invariants
 * - At most one action per key is in flight, and `Seen.inFlight` knows which.
 * - Act, then look: the end of an action makes the view of the runtime stale; only a look that
 *   began after it tells what is so.
 * - `Ledger` is the part of `Seen` that is stored. It is durable before any action that was planned
 *   with it begins, so a start intent is on the disk before the start.
 * - A terminal ledger is never left, and nothing is ever started under it.
 *
 * Life of a pod:  waiting for admission -> set up -> sandbox -> init -> running
 *                 -> ending (stop main, then sidecars, then sandbox) -> terminal -> (deleted) gone
 */
import type { Now, Stamp } from '../base/clock.ts';
import type { Fault } from '../base/failure.ts';
import type { ContainerStatusCri, PodSandboxState } from '../kube/cri.ts';
import type { Pod, PullPolicy, Source, Volume } from '../kube/pod.ts';

export type { Now, Source, Stamp };

export type Want = {
  readonly pod: Pod;
  readonly source: Source;
  /** Order of acceptance on this node; an earlier pod is never displaced by a later one. */
  readonly order: number;
  /** Set when the pod is to be ended and forgotten. */
  readonly deletion?: Deletion;
};

export type Deletion = {
  readonly graceSeconds: number;
  readonly at: Stamp;
  /** The API server has the object no more: nobody is to be told of the end. */
  readonly gone?: true;
};

/** How a container's run ended. Times are RFC 3339, absent when unknown. */
export type Outcome = {
  readonly attempt: number;
  /** The sandbox that it ran in: after a new one, init containers run again. */
  readonly sandboxAttempt: number;
  readonly exitCode: number;
  readonly reason: string;
  readonly message?: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly containerID?: string;
  readonly imageRef?: string;
  /** When the agent learned of it; the crash-loop backoff counts from here. */
  readonly seenAt: Stamp;
};

/** What is stored of a container. */
export type ContainerLedger = {
  /** The attempt that was last created or is about to be; the kubelet's restart count. */
  readonly attempt: number;
  readonly sandboxAttempt: number;
  /** A start that was decided. Without an outcome it may have happened. */
  readonly intent?: { readonly attempt: number; readonly epoch: string; readonly at: Stamp };
  /** Of `attempt`. */
  readonly outcome?: Outcome;
  /** Of the attempt before. */
  readonly lastOutcome?: Outcome;
  /** When its preStop hook began or it got its SIGTERM, once that is sure: its grace counts from here. */
  readonly stopping?: Stamp;
  /** Of `attempt`: its postStart hook has ended well. */
  readonly postStart?: 'done';
  /** Of `attempt`: its startup probe has succeeded. */
  readonly started?: true;
  /** Of `attempt`: what its readiness probe said, and since when. Stored once a minute at most. */
  readonly ready?: { readonly is: boolean; readonly at: Stamp };
  /** Of `attempt`: why it is stopped though its pod goes on. */
  readonly kill?: Kill;
  /** Of `attempt`: its preStop hook has ended, or its time was over. */
  readonly preStop?: 'done';
  /** Crash-loop backoff: what the next restart waits after a failure, and when it was set. */
  readonly backoff?: { readonly delayMs: number; readonly at: Stamp };
};

/** What a container has done wrong; `changed`: nothing, but it should be another one now. */
export type Kill = {
  readonly cause: 'startup' | 'liveness' | 'postStart' | 'changed';
  readonly message?: string;
};

export type ProbeName = 'startup' | 'liveness' | 'readiness';

/** What is stored of a pod beside its manifest. JSON as it stands. */
export type Ledger = {
  /** When this node first took the pod up; status.startTime. */
  readonly started?: Stamp;
  /** Time that the pod has been active, up to `at`; for activeDeadlineSeconds. */
  readonly active?: { readonly ms: number; readonly at: Stamp };
  readonly admitted?: boolean;
  readonly sandboxAttempt: number;
  /** The first sandbox of a boot: what is left of earlier ones has nothing in this kernel. */
  readonly bootSandbox?: { readonly boot: string; readonly attempt: number };
  readonly containers: Readonly<Record<string, ContainerLedger>>;
  /** Set once when the pod begins to end. */
  readonly ending?: Ending;
  readonly terminal?: Terminal;
};

export type EndingCause = 'deleted' | 'completed' | 'deadline' | 'rejected' | 'offline';
export type Ending = {
  readonly cause: EndingCause;
  readonly graceSeconds: number;
  readonly since: Stamp;
  readonly reason?: string;
  readonly message?: string;
};

export type Terminal = {
  readonly phase: 'Succeeded' | 'Failed';
  readonly reason?: string;
  readonly message?: string;
  readonly at: Stamp;
};

/** One look at the runtime, of this pod only. */
export type View = {
  /** Looks are numbered by their beginning. */
  readonly seq: number;
  /** Changes when the runtime was restarted. */
  readonly epoch: string;
  /** Newest first. */
  readonly sandboxes: readonly SandboxSeen[];
  /** Newest first. */
  readonly containers: readonly ContainerSeen[];
};

export type SandboxSeen = {
  readonly id: string;
  readonly attempt: number;
  readonly state: PodSandboxState;
  readonly ips: readonly string[];
};

/** `message` carries the termination message once the container has ended. */
export type ContainerSeen = ContainerStatusCri & { readonly podSandboxId: string };

export type VolumeSeen = 'up' | 'down';

export type ImageSeen = {
  /** What the runtime calls the image; absent while it is not here. */
  readonly ref?: string;
  readonly fault?: Fault;
  /** Pull backoff: no pull before this. */
  readonly backoff?: { readonly delayMs: number; readonly untilMonoMs: number };
};

/** An action that failed and when it may be tried again. */
export type Retry = {
  readonly fault: Fault;
  readonly failures: number;
  readonly untilMonoMs: number;
};

export type InFlight = { readonly action: Action; readonly sinceMonoMs: number };

/** Why the node starts nothing new at the moment (its disk is full, its runtime is away). */
export type Hold = { readonly reason: string; readonly message: string };

export type Seen = {
  readonly ledger: Ledger;
  readonly view?: View;
  /** A view is fresh only if its look began after this one. */
  readonly staleSeq: number;
  readonly inFlight: Readonly<Record<string, InFlight>>;
  readonly retries: Readonly<Record<string, Retry>>;
  readonly images: Readonly<Record<string, ImageSeen>>;
  readonly volumes: Readonly<Record<string, VolumeSeen>>;
  /** Volumes whose files are not of the newest objects; one that is up is used meanwhile. */
  readonly staleVolumes: readonly string[];
  /** The pod's directories, files and cgroup, as done by this run of the agent. */
  readonly setUp: 'no' | 'up' | 'released' | 'gone';
  /** What readiness probes said in this life of the agent; newer than what is stored. */
  readonly ready: Readonly<
    Record<string, { readonly attempt: number; readonly is: boolean; readonly at: Stamp }>
  >;
  readonly hold?: Hold;
  /** Why the pod has to wait for another one (same name, same port), if it must. */
  readonly waitFor?: Hold;
  /** Why it must not be started while the API server is out of reach. */
  readonly fence?: Hold;
};

/** Every effect that the core can ask for. `execute.ts` carries out each of them. */
export type Action =
  | { readonly type: 'Look'; readonly key: 'look' }
  | { readonly type: 'SetUpPod'; readonly key: 'pod' }
  /** `final`: files and logs too; else only what a terminated pod needs no more (its cgroup). */
  | { readonly type: 'TearDownPod'; readonly key: 'pod'; readonly final: boolean }
  | { readonly type: 'SetUpVolume'; readonly key: string; readonly volume: Volume }
  | { readonly type: 'TearDownVolume'; readonly key: string; readonly volume: Volume }
  | {
      readonly type: 'PullImage';
      readonly key: string;
      readonly image: string;
      readonly policy: PullPolicy;
    }
  | { readonly type: 'RunPodSandbox'; readonly key: 'sandbox'; readonly attempt: number }
  | { readonly type: 'StopPodSandbox'; readonly key: string; readonly id: string }
  | { readonly type: 'RemovePodSandbox'; readonly key: string; readonly id: string }
  | {
      readonly type: 'CreateContainer';
      readonly key: string;
      readonly name: string;
      readonly attempt: number;
      readonly sandboxId: string;
      readonly sandboxAttempt: number;
      readonly imageRef: string;
    }
  | {
      readonly type: 'StartContainer';
      readonly key: string;
      readonly name: string;
      readonly id: string;
      readonly attempt: number;
      readonly sandboxAttempt: number;
      readonly epoch: string;
    }
  | {
      readonly type: 'StopContainer';
      readonly key: string;
      readonly name: string;
      readonly id: string;
      readonly graceSeconds: number;
      /** For people: why it is stopped. Absent when its preStop hook told them. */
      readonly message?: string;
    }
  /** May be repeated: a hook is run at least once. */
  | {
      readonly type: 'RunPostStart';
      readonly key: string;
      readonly name: string;
      readonly id: string;
      readonly attempt: number;
    }
  /** Given up when the grace is over. */
  | {
      readonly type: 'RunPreStop';
      readonly key: string;
      readonly name: string;
      readonly id: string;
      readonly attempt: number;
      /** For people: why it is stopped. */
      readonly message: string;
    }
  | {
      readonly type: 'RemoveContainer';
      readonly key: string;
      readonly name: string;
      readonly id: string;
    };

export type ActionType = Action['type'];

/** What happened. */
export type PodEvent =
  /** Nothing, but time has passed or the want has changed. */
  | { readonly type: 'Tick' }
  /** A look ended well. */
  | { readonly type: 'Looked'; readonly view: View }
  /** Something changed in the runtime: looks that began up to `seq` are stale. */
  | { readonly type: 'Hint'; readonly seq: number }
  /** The runtime answers again after a time away. */
  | { readonly type: 'RuntimeBack'; readonly seq: number }
  /** An action was begun; posted in the turn that planned it, before its ledger is stored. */
  | { readonly type: 'ActionStarted'; readonly action: Action }
  | {
      readonly type: 'ActionEnded';
      readonly action: Action;
      /** The number of the last look that had begun when it ended. */
      readonly seq: number;
      readonly result: ActionResult;
    }
  /** Objects or tokens that the pod uses, or its own labels and annotations, are others now. */
  | { readonly type: 'ObjectsChanged' }
  /** A probe has said the same often enough. */
  | {
      readonly type: 'Probed';
      readonly name: string;
      readonly id: string;
      readonly probe: ProbeName;
      readonly result: 'success' | 'failure';
    }
  | { readonly type: 'Admitted' }
  | { readonly type: 'Rejected'; readonly reason: string; readonly message: string }
  /** It must not run while the node is cut off for so long. */
  | { readonly type: 'OfflineTooLong'; readonly message: string }
  | { readonly type: 'Fenced'; readonly fence: Hold | undefined }
  | { readonly type: 'Waiting'; readonly waitFor: Hold | undefined }
  | { readonly type: 'Held'; readonly hold: Hold | undefined };

export type ActionResult =
  /** `value`: the image reference of PullImage; `note`: what to tell people of it. */
  | { readonly ok: true; readonly value?: string; readonly note?: string }
  | { readonly ok: false; readonly fault: Fault };

/** What to do now, and when to ask again at the latest. */
export type Plan = {
  readonly start: readonly Action[];
  /** Keys of actions in flight that should be given up. */
  readonly cancel: readonly string[];
  readonly wakeAtMonoMs?: number;
  /** Everything of the pod is gone: forget it. */
  readonly done: boolean;
};

/** A pod that nothing is known of yet, but what was stored. */
export function firstSeen(ledger: Ledger | undefined): Seen {
  return {
    ledger: ledger ?? { sandboxAttempt: -1, containers: {} },
    staleSeq: 0,
    inFlight: {},
    retries: {},
    images: {},
    volumes: {},
    staleVolumes: [],
    setUp: 'no',
    ready: {},
  };
}
