/**
 * Looks at the runtime on behalf of pods. A few pods are looked at one by one; many at once share
 * one listing of everything. Details of a container are asked for once in each of its states.
 *
 * Invariants
 * - A look is numbered before its first call, so that whatever ended before the number was taken is
 *   in the view.
 * - A container that the runtime can't tell of (it hangs under load) spoils the view of its own pod
 *   and of no other.
 */
import { Failure } from '../base/failure.ts';
import { HASH_ANNOTATION } from '../kube/container-hash.ts';
import type {
  ContainerStatusCri,
  ContainerSummary,
  PodSandbox,
  RuntimeService,
} from '../kube/cri.ts';
import type { ContainerSeen, SandboxSeen, View } from '../pod/model.ts';
import { POD_UID_LABEL } from '../pod/names.ts';

/** From this many pods on, one listing of everything is cheaper. */
const SHARE_FROM = 3;
/** Pods whose details are asked for at the same time. */
const SIDE_BY_SIDE = 4;

export type LooksOptions = {
  readonly runtime: RuntimeService;
  readonly epoch: () => string | undefined;
  /** Called with each container that has just been seen ended, to add what it left to say. */
  readonly onExited: (podUid: string, container: ContainerStatusCri) => Promise<ContainerStatusCri>;
  /** Calls back after the events that are already waiting. */
  readonly soon: (run: () => void) => void;
};

type Request = {
  readonly uid: string;
  readonly signal: AbortSignal;
  readonly resolve: (view: View) => void;
  readonly reject: (error: unknown) => void;
};

/** What a listing of everything showed. */
export type Everything = {
  /** Of the pods that have anything in the runtime. */
  readonly uids: ReadonlySet<string>;
  /** The view of a pod, an empty one if it has nothing there, or why it can't be told. */
  readonly viewOf: (uid: string) => View | Failure;
  readonly sandboxes: readonly PodSandbox[];
  readonly containers: readonly ContainerSummary[];
};

export class Looks {
  readonly #options: LooksOptions;
  #seq = 0;
  #requests: Request[] = [];
  /** Sandboxes' addresses and containers' details, by pod and id. */
  readonly #ips = new Map<string, Map<string, readonly string[]>>();
  readonly #details = new Map<string, Map<string, ContainerStatusCri>>();
  readonly #podOfContainer = new Map<string, string>();

  constructor(options: LooksOptions) {
    this.#options = options;
  }

  /** The number of the last look that has begun. */
  get seq(): number {
    return this.#seq;
  }

  /** The pod that a container or sandbox belongs to, if a look has shown it. */
  podOf(id: string): string | undefined {
    return this.#podOfContainer.get(id);
  }

  /** A view of one pod. Looks asked for in the same turn are done together. */
  look(uid: string, signal: AbortSignal): Promise<View> {
    return new Promise((resolve, reject) => {
      this.#requests.push({ uid, signal, resolve, reject });
      if (this.#requests.length === 1) this.#options.soon(() => void this.#flush());
    });
  }

  async #flush(): Promise<void> {
    const requests = this.#requests.filter(({ signal, reject }) => {
      if (signal.aborted) reject(signal.reason);
      return !signal.aborted;
    });
    this.#requests = [];
    if (requests.length < SHARE_FROM) {
      await Promise.all(
        requests.map(({ uid, signal, resolve, reject }) =>
          this.#lookAtPod(uid, signal).then(resolve, reject),
        ),
      );
      return;
    }
    const controller = new AbortController();
    try {
      const { viewOf } = await this.everything(controller.signal);
      for (const { uid, resolve, reject } of requests) {
        const view = viewOf(uid);
        if (view instanceof Failure) reject(view);
        else resolve(view);
      }
    } catch (error) {
      for (const { reject } of requests) reject(error);
    }
  }

  async #lookAtPod(uid: string, signal: AbortSignal): Promise<View> {
    const seq = ++this.#seq;
    const epoch = this.#options.epoch() ?? '';
    const { runtime } = this.#options;
    const [sandboxes, containers] = await Promise.all([
      runtime.listPodSandboxes(uid, signal),
      runtime.listContainers(uid, signal),
    ]);
    return this.#view(uid, { seq, epoch }, sandboxes, containers, signal);
  }

  /** Lists everything that the runtime has, by pod. */
  async everything(signal: AbortSignal): Promise<Everything> {
    const head = { seq: ++this.#seq, epoch: this.#options.epoch() ?? '' };
    const { runtime } = this.#options;
    const [sandboxes, containers] = await Promise.all([
      runtime.listPodSandboxes(undefined, signal),
      runtime.listContainers(undefined, signal),
    ]);
    const uids = new Set<string>();
    for (const { metadata } of sandboxes) uids.add(metadata.uid);
    for (const { labels } of containers) {
      const uid = labels[POD_UID_LABEL];
      if (uid !== undefined) uids.add(uid);
    }
    for (const uid of this.#details.keys()) if (!uids.has(uid)) this.#details.delete(uid);
    for (const uid of this.#ips.keys()) if (!uids.has(uid)) this.#ips.delete(uid);
    for (const [id, uid] of this.#podOfContainer) {
      if (!uids.has(uid)) this.#podOfContainer.delete(id);
    }
    const views = new Map<string, View | Failure>();
    const left = [...uids];
    const lookAtThem = async () => {
      for (let uid = left.shift(); uid !== undefined; uid = left.shift()) {
        const itsSandboxes = sandboxes.filter(({ metadata }) => metadata.uid === uid);
        const itsContainers = containers.filter(({ labels }) => labels[POD_UID_LABEL] === uid);
        const view = this.#view(uid, head, itsSandboxes, itsContainers, signal);
        views.set(uid, await view.catch(unlessGone));
      }
    };
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, lookAtThem));
    const nothing: View = { ...head, sandboxes: [], containers: [] };
    return { uids, viewOf: (uid) => views.get(uid) ?? nothing, sandboxes, containers };
  }

  async #view(
    uid: string,
    head: Pick<View, 'seq' | 'epoch'>,
    sandboxes: readonly PodSandbox[],
    containers: readonly ContainerSummary[],
    signal: AbortSignal,
  ): Promise<View> {
    const ips = new Map<string, readonly string[]>();
    const details = new Map<string, ContainerStatusCri>();
    const seenSandboxes: SandboxSeen[] = [];
    for (const { id, metadata, state } of sandboxes) {
      this.#podOfContainer.set(id, uid);
      const known = this.#ips.get(uid)?.get(id) ?? [];
      const its =
        state === 'SANDBOX_READY' && known.length === 0 ? await this.#askIps(id, signal) : known;
      ips.set(id, its);
      seenSandboxes.push({ id, attempt: metadata.attempt, state, ips: its });
    }
    const seenContainers: ContainerSeen[] = [];
    for (const summary of containers) {
      this.#podOfContainer.set(summary.id, uid);
      const detail = await this.#detail(uid, summary, signal);
      if (detail === undefined) continue;
      details.set(detail.id, detail);
      seenContainers.push({ ...detail, podSandboxId: summary.podSandboxId });
    }
    this.#ips.set(uid, ips);
    this.#details.set(uid, details);
    seenSandboxes.sort((a, b) => b.attempt - a.attempt);
    seenContainers.sort((a, b) => b.attempt - a.attempt || Number(b.createdAt - a.createdAt));
    return { ...head, sandboxes: seenSandboxes, containers: seenContainers };
  }

  async #askIps(id: string, signal: AbortSignal): Promise<readonly string[]> {
    return (await this.#options.runtime.podSandboxStatus(id, signal))?.ips ?? [];
  }

  async #detail(
    uid: string,
    summary: ContainerSummary,
    signal: AbortSignal,
  ): Promise<ContainerStatusCri | undefined> {
    const known = this.#details.get(uid)?.get(summary.id);
    if (known?.state === summary.state) return known;
    // It was removed since it was listed.
    const status = await this.#options.runtime.containerStatus(summary.id, signal);
    if (status === undefined) return undefined;
    const hash = status.annotations[HASH_ANNOTATION];
    // The rest of them is never read, and is not kept for each container.
    const annotations = hash === undefined ? {} : { [HASH_ANNOTATION]: hash };
    const bare = { ...status, labels: {}, annotations };
    return bare.state === 'CONTAINER_EXITED' ? this.#options.onExited(uid, bare) : bare;
  }
}

/** A failure that is of this pod alone; a runtime that is gone answers for none. */
function unlessGone(error: unknown): Failure {
  if (error instanceof Failure && error.code !== 'Unavailable' && error.code !== 'Cancelled') {
    return error;
  }
  throw error;
}
