/**
 * The agent: the only room that knows all the others. It opens what is needed in order, connects
 * it, and closes it in reverse. The containers go on when it ends.
 */
import { mkdirSync } from 'node:fs';
import { abortable } from '../base/abortable.ts';
import { systemClock } from '../base/clock.ts';
import { compiledCode } from '../base/compiled-code.ts';
import { Failure, faultOf } from '../base/failure.ts';
import { createLog } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { BUILT_WALL_MS } from '../base/version.ts';
import type { EventObject, NewEvent } from '../kube/event.ts';
import type { Pod } from '../kube/pod.ts';
import { fileFailure } from '../linux/files.ts';
import { openLibc, type Libc } from '../linux/libc.ts';
import { createNotifier } from '../linux/notify.ts';
import { bootId } from '../linux/proc.ts';
import type { Want } from '../pod/model.ts';
import { rfc3339OfMs } from '../pod/reduce.ts';
import type { BoardReport, LocalApi, NodeReport } from '../server/api.ts';
import { serveLocal } from '../server/local.ts';
import { watchManifests } from '../source/manifest-directory.ts';
import { openStore } from '../store/open.ts';
import { clusterWork } from './cluster-work.ts';
import type { Core, Foundation } from './core.ts';
import { createCore } from './core.ts';
import { createDrives, type Drives } from './drives.ts';
import { findingsOf, fullHold } from './findings.ts';
import { forgottenPods } from './forgotten.ts';
import { createLocalApi } from './local-api.ts';
import { keepLogsSmall } from './log-rotation.ts';
import { createKubeletPorts, type KubeletPorts } from './kubelet-ports.ts';
import type { Everything } from './looks.ts';
import { createHardware, type Hardware } from './hardware-loop.ts';
import { takeInventory, type Inventory } from './inventory.ts';
import { createMembership, type Membership } from './membership.ts';
import type { AgentOptions } from './options.ts';
import { removeLostRecords, removeTornNetworkRecords } from './network-records.ts';
import { orphansOf } from './orphans.ts';
import { removeDeadLogLinks, removeForgottenPods } from './pod-files.ts';
import { createRelay, type AgentRelay } from './relay.ts';
import type { RuntimeState } from './runtime-watch.ts';
import { watchRuntime } from './runtime-watch.ts';
import { sideBySide } from './side-by-side.ts';
import type { ReadUsage } from '../usage/usage.ts';
import type { Turns } from './turns.ts';
import { usageOf } from './usage.ts';

/** Runs the agent until the signal is aborted. Fails when it can't start. */
export async function runAgent(options: AgentOptions, signal: AbortSignal): Promise<void> {
  const journal = process.env['JOURNAL_STREAM'] !== undefined;
  const write = (line: string) => void process.stderr.write(line);
  const log = createLog(options.logLevel, write, { journal });
  await using stack = new AsyncDisposableStack();
  const libc = openLibc();
  const notifier = createNotifier(
    process.env,
    process.pid,
    () => libc,
    (m) => log.warn(m),
  );
  let floorMs = BUILT_WALL_MS;
  const clock = systemClock(
    bootId(),
    () => floorMs,
    () => libc?.clockIsSynchronized() === true,
  );
  const { nativeBinding, rootDirectory } = options;
  try {
    mkdirSync(rootDirectory, { recursive: true, mode: 0o750 });
  } catch (error) {
    throw fileFailure('make the directory', rootDirectory, error);
  }
  const store = stack.use(
    openStore(rootDirectory, {
      clock,
      log,
      podsDirectory: `${rootDirectory}/pods`,
      ...(nativeBinding !== undefined && { nativeBinding }),
    }),
  );
  floorMs = Math.max(floorMs, store.timeFloor());
  log.info('starting', {
    version: options.version,
    node: options.nodeName,
    store: store.opening.state,
    pods: store.pods().length,
    compiled: compiledCode?.state,
  });
  for (const warning of options.configWarnings) log.warn(warning);
  const onLaterThan = (wallMs: number) => void (floorMs = Math.max(floorMs, wallMs));
  const base = { clock, log, store, trimHeap: () => libc?.trimHeap() };
  const { runDirectory } = options;
  const drives = createDrives({ clock, log, runDirectory, root: '' });
  const hardware = createHardware({
    ...{ clock, log, rootDirectory, runDirectory, root: '' },
    earliestWallMs: BUILT_WALL_MS,
    isSynchronized: () => libc?.clockIsSynchronized(),
    driveLogs: drives.logs,
    onEvent: (event) => store.recordEvent({ ...event, object: nodeObject(options) }, clock.now()),
  });
  const agent = new Agent(options, { ...base, hardware, drives, libc }, onLaterThan, stack);
  if (notifier.watchdogMs !== undefined) {
    const beatMs = notifier.watchdogMs / 2;
    const beat = () => {
      notifier.watchdog();
      next = clock.at(clock.now().monoMs + beatMs, beat);
    };
    let next = clock.at(clock.now().monoMs, beat);
    stack.defer(() => next.cancel());
  }
  await agent.run(signal, () => notifier.ready());
  notifier.stopping();
  log.info('stopping; the containers go on');
}

/** What the board itself tells. */
type BoardParts = {
  readonly hardware: Hardware;
  readonly drives: Drives;
  readonly libc: Libc | undefined;
};

/** The parts of the agent, connected. */
class Agent {
  readonly #options: AgentOptions;
  readonly #base: Foundation;
  readonly #core: Core;
  readonly #usage: ReadUsage;
  readonly #ports: KubeletPorts;
  readonly #membership: Membership | undefined;
  readonly #hardware: Hardware;
  readonly #drives: Drives;
  readonly #relay: AgentRelay | undefined;
  #inventory: Inventory | undefined;
  readonly #unknown = new Set<string>();
  #swept = false;
  #mending = false;
  /** The API server: the last lease could not be renewed. */
  #isAway = false;
  #manifestErrors: NodeReport['manifestErrors'] = [];
  /** Pods of the manifest folder that are not stored yet. */
  #manifestPods: readonly Pod[] | undefined;
  readonly #runtime: RuntimeState = {
    connected: false,
    version: undefined,
    networkReady: false,
    message: 'not connected yet',
    status: undefined,
  };

  constructor(
    options: AgentOptions,
    { hardware, drives, libc, ...base }: Foundation & BoardParts,
    onLaterThan: (wallMs: number) => void,
    stack: AsyncDisposableStack,
  ) {
    this.#options = options;
    this.#base = base;
    this.#hardware = hardware;
    this.#drives = drives;
    this.#core = createCore(options, { ...base, onPods: () => this.#relay?.changed() }, stack);
    this.#usage = usageOf(options, base.clock, this.#core);
    const workers = () => this.#core.turns.workers.values();
    this.#relay = createRelay(
      options,
      {
        ...{ ...base, workers, conditions: hardware.conditions, figures: hardware.figures },
        ...{ hostIPs: this.#core.hostIPs, usage: this.#usage, libc },
        ready: this.#core.settling.podsFirst,
      },
      stack,
    );
    this.#ports = createKubeletPorts({ options, base, core: this.#core });
    this.#membership = createMembership(options, {
      ...base,
      runtime: this.#runtime,
      cri: this.#core.cri,
      board: hardware,
      onLaterThan,
      onLease: (isRenewed) => {
        const { offline, clusterObjects } = this.#core;
        if (isRenewed) offline.heard();
        else offline.missed();
        if (isRenewed && this.#isAway) clusterObjects?.reached();
        this.#isAway = !isRenewed;
      },
      onSession: async (session, until) => {
        this.#ports.useSession(session, until);
        await clusterWork({ options, base, core: this.#core }, session, until);
      },
    });
    this.#core.holds.set('runtime', {
      reason: 'RuntimeNotReady',
      message: `waiting for the container runtime at ${options.runtimeEndpoint}`,
    });
    this.#core.desired.load();
  }

  /** Does the agent's work until the signal is aborted. `onReady`: its socket answers. */
  async run(signal: AbortSignal, onReady: () => void): Promise<void> {
    const { log } = this.#base;
    await using _server = await serveLocal(this.#localApi(), this.#options.runDirectory, {
      log,
      signal,
    });
    onReady();
    await sideBySide(
      {
        manifests: this.#followManifests(signal),
        runtime: this.#followRuntime(signal),
        logs: this.#keepLogsSmall(signal),
        store: this.#storeAgain(signal),
        membership: this.#membership?.run(signal),
        ports: this.#ports.run(signal),
        relay: this.#relay?.run(signal),
        hardware: this.#hardware.run(signal),
        drives: this.#drives.run(signal),
        inventory: this.#takeInventory(signal),
      },
      log,
      signal,
    );
    const { turns, starts } = this.#core;
    turns.halt();
    // A start that is given up kills what it has begun, and a pod may have only one.
    const patience = this.#base.clock.sleep(LONGEST_STOP_MS, new AbortController().signal);
    await Promise.race([starts.drain(), patience]);
    turns.stop(new Error('the agent is stopping'));
  }

  async #takeInventory(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#base;
    const { runDirectory } = this.#options;
    this.#inventory = await takeInventory({ clock, log, runDirectory }, signal);
  }

  #board(): BoardReport {
    const { facts, conditions, figures, troubles } = this.#hardware;
    return {
      ...{ facts: facts(), conditions: conditions(), figures: figures() },
      troubles: troubles(),
      ...(this.#inventory !== undefined && { inventory: this.#inventory }),
    };
  }

  #localApi(): LocalApi {
    const { clock, store } = this.#base;
    const { turns, desired, nodeCgroup, holds } = this.#core;
    return createLocalApi({
      options: this.#options,
      store,
      turns,
      desired,
      clock,
      random: systemRandom(),
      runtime: this.#runtime,
      cgroupDriver: () => nodeCgroup.driver(),
      cluster: () => this.#membership?.report(),
      relay: () => this.#relay?.report(),
      board: () => this.#board(),
      usage: this.#usage,
      hostIP: () => this.#core.hostIPs()[0],
      manifestErrors: () => this.#manifestErrors,
      findings: () => [
        ...findingsOf(
          this.#options,
          store,
          this.#runtime,
          { unknown: [...this.#unknown], forgotten: this.#forgotten() },
          holds,
          this.#membership?.report(),
          this.#core.clusterObjects?.expiredTokens() ?? [],
        ),
        ...this.#ports.findings(),
      ],
      startedAt: rfc3339OfMs(clock.now().wallMs),
    });
  }

  #forgotten(): readonly string[] {
    return forgottenPods(this.#base.store).flatMap((uid) => {
      const worker = this.#core.turns.workers.get(uid);
      if (worker === undefined) return [];
      const { namespace, name } = worker.want.pod.metadata;
      return `${namespace}/${name}`;
    });
  }

  async #followManifests(signal: AbortSignal): Promise<void> {
    const { clock, log, store } = this.#base;
    const { manifestDirectory } = this.#options;
    if (manifestDirectory === undefined) {
      // No folder is news as well: the pods that came from one are not wanted any more.
      this.#manifestPods = [];
      this.#takeManifests();
      return;
    }
    const previous = store.pods().flatMap(({ pod, source }) => (source === 'file' ? [pod] : []));
    await watchManifests(manifestDirectory, {
      clock,
      log,
      nodeName: this.#options.nodeName,
      previous,
      signal,
      onChange: ({ errors, synced, pods }) => {
        this.#manifestErrors = errors;
        for (const error of errors) store.recordEvent(manifestEvent(error), clock.now());
        if (!synced) return;
        this.#manifestPods = pods;
        this.#takeManifests();
      },
    });
  }

  #takeManifests(): void {
    if (this.#manifestPods === undefined) return;
    try {
      this.#core.desired.setManifests(this.#manifestPods);
      this.#manifestPods = undefined;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#core.holds.set('store', fullHold(faultOf(error)));
    }
  }

  #followRuntime(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#base;
    const { cri, looks, turns, images, nodeCgroup, holds, settling } = this.#core;
    const onBack = async () => {
      await Promise.all([
        images.repair(signal),
        nodeCgroup.open(signal),
        // Before any sandbox is made in this boot it is plain which ones are lost.
        this.#hasMadeSandboxes()
          ? undefined
          : this.#removeLostRecords(false, signal).catch(() => undefined),
      ]);
      void this.#mendNetworkRecords(signal).catch(() => undefined);
      holds.set('runtime', undefined);
      turns.postAll({ type: 'RuntimeBack', seq: looks.seq });
      if (turns.workers.size === 0) settling.turned(holds.current, []);
    };
    return watchRuntime(
      {
        runtime: cri.runtime,
        looks,
        clock,
        log,
        onChange: (uid) => {
          if (uid !== undefined) turns.post(uid, { type: 'Hint', seq: looks.seq });
        },
        onBack,
        onState: () => this.#membership?.poke(),
        onEverything: (everything) => this.#seeEverything(everything, signal),
        ...{ comes: this.#core.runtimeComes, podsFirst: settling.podsFirst },
      },
      this.#runtime,
      signal,
    );
  }

  /** Once at a time: the runtime may come and go meanwhile. */
  async #mendNetworkRecords(signal: AbortSignal): Promise<void> {
    if (this.#mending) return;
    this.#mending = true;
    try {
      await removeTornNetworkRecords(NETWORK_RECORDS, this.#base, signal);
      await this.#removeLostRecords(true, signal);
    } finally {
      this.#mending = false;
    }
  }

  async #removeLostRecords(mayBeNew: boolean, signal: AbortSignal): Promise<void> {
    const { runtime } = this.#core.cri;
    const known = async () =>
      new Set((await runtime.listPodSandboxes(undefined, signal)).map(({ id }) => id));
    await removeLostRecords(NETWORK_RECORDS, known, mayBeNew, this.#base, signal);
  }

  /** Whether a sandbox may have been made in this boot. */
  #hasMadeSandboxes(): boolean {
    const { boot } = this.#base.clock.now();
    return [...this.#core.turns.workers.values()].some(
      ({ seen }) => seen.ledger.bootSandbox?.boot === boot,
    );
  }

  #seeEverything(everything: Everything, signal: AbortSignal): void {
    const { turns } = this.#core;
    for (const uid of turns.workers.keys()) {
      const view = everything.viewOf(uid);
      if (!(view instanceof Failure)) turns.post(uid, { type: 'Looked', view });
    }
    this.#keepOrEnd(orphansOf(everything, (uid) => turns.workers.has(uid), this.#base.clock));
    if (this.#swept) return;
    this.#swept = true;
    void this.#sweep(everything, signal);
  }

  /** Ends pods that nobody wants; keeps them if the store that would know of them was lost. */
  #keepOrEnd(orphans: readonly Want[]): void {
    this.#unknown.clear();
    for (const want of orphans) {
      const { namespace, name, uid } = want.pod.metadata;
      if (this.#wasLost()) {
        this.#unknown.add(`${namespace}/${name}`);
        continue;
      }
      this.#base.log.warn('ending a pod that nobody wants', { pod: `${namespace}/${name}`, uid });
      this.#core.turns.add(want, undefined);
    }
  }

  /** Removes once, after the first look at everything, what former pods left on the disk. */
  async #sweep(everything: Everything, signal: AbortSignal): Promise<void> {
    if (this.#wasLost()) return;
    const { turns, paths } = this.#core;
    const isKnown = (uid: string) => turns.workers.has(uid) || everything.uids.has(uid);
    try {
      await removeForgottenPods(paths, isKnown, signal);
      await removeDeadLogLinks(paths);
    } catch (error) {
      const { message } = faultOf(error);
      this.#base.log.warn('cannot remove what former pods left', { message });
    }
  }

  /** The store may not know of all that should run. */
  #wasLost(): boolean {
    const { state } = this.#base.store.opening;
    return state === 'restored' || state === 'rebuilt';
  }

  #keepLogsSmall(signal: AbortSignal): Promise<void> {
    const { podLogsDirectory, containerLogMaxBytes, containerLogMaxFiles } = this.#options;
    const { clock, log } = this.#base;
    const { turns, cri } = this.#core;
    return keepLogsSmall(
      {
        logRoot: podLogsDirectory,
        policy: {
          maxBytes: containerLogMaxBytes,
          maxFiles: containerLogMaxFiles,
          intervalMs: this.#options.containerLogMonitorIntervalMs,
        },
        clock,
        log,
        running: () => runningContainers(turns),
        reopen: (id, s) => cri.runtime.reopenContainerLog(id, s),
      },
      signal,
    );
  }

  /** While the disk is full, tries now and then whether it still is. */
  async #storeAgain(signal: AbortSignal): Promise<void> {
    const { holds, turns } = this.#core;
    for (;;) {
      await abortable(holds.until('store'), signal);
      await this.#base.clock.sleep(STORE_AGAIN_MS, signal);
      // If there is room again, one of these writes succeeds or there is nothing to write.
      holds.set('store', undefined);
      turns.storeAgain();
      this.#takeManifests();
    }
  }
}

/** Where libcni and host-local keep what they know of sandboxes. */
const NETWORK_RECORDS = '/var/lib/cni';
/** Less than TimeoutStopSec of the unit. */
const LONGEST_STOP_MS = 15_000;
const STORE_AGAIN_MS = 15_000;

/** The containers whose logs grow. */
function* runningContainers(turns: Turns) {
  for (const { want, seen } of turns.workers.values()) {
    for (const { id, name, attempt, state } of seen.view?.containers ?? []) {
      if (state === 'CONTAINER_RUNNING') yield { id, pod: want.pod, name, attempt };
    }
  }
}

/** The kubelet, too, gives the name of the Node as its UID. */
function nodeObject({ nodeName, cluster }: AgentOptions): EventObject {
  const inApi = cluster === undefined ? {} : ({ inApi: true } as const);
  return { kind: 'Node', name: nodeName, uid: nodeName, ...inApi };
}

function manifestEvent({ path, message }: NodeReport['manifestErrors'][number]): NewEvent {
  return {
    type: 'Warning',
    reason: 'InvalidManifest',
    message,
    object: { kind: 'Manifest', name: path },
  };
}
