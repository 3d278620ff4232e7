/**
 * The agent: the only room that knows all the others. It opens what is needed in order, connects
 * it, and closes it in reverse. The containers go on when it ends.
 */
import { mkdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { faultOf } from '../base/failure.ts';
import { createLog } from '../base/log.ts';
import type { Log } from '../base/log.ts';
import { LIMITS } from '../base/limits.ts';
import { systemRandom } from '../base/random.ts';
import { open as openRuntime } from '../cri/open.ts';
import type { NewEvent } from '../kube/event.ts';
import { openLibc } from '../linux/libc.ts';
import { createNotifier } from '../linux/notify.ts';
import { bootId, cpuCount, memTotalBytes } from '../linux/proc.ts';
import { rfc3339OfMs } from '../pod/reduce.ts';
import type { Pod } from '../kube/pod.ts';
import type { Want } from '../pod/model.ts';
import type { NodeReport } from '../server/api.ts';
import { serveLocal } from '../server/local.ts';
import { watchManifests } from '../source/manifest-directory.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { Desired } from './desired.ts';
import { createExecute, withLastWords } from './execute.ts';
import { findingsOf, fullHold } from './findings.ts';
import { Holds } from './holds.ts';
import { createImages } from './images.ts';
import { createLocalApi } from './local-api.ts';
import { Looks } from './looks.ts';
import type { Everything } from './looks.ts';
import { keepLogsSmall } from './log-rotation.ts';
import { createMemoryRelease } from './memory.ts';
import { createNodeCgroup } from './node-cgroup.ts';
import type { AgentOptions } from './options.ts';
import { orphansOf } from './orphans.ts';
import { removeDeadLogLinks, removeForgottenPods } from './pod-files.ts';
import type { PodPaths } from './pod-files.ts';
import { pullRecords } from './pull-records.ts';
import type { RuntimeState } from './runtime-watch.ts';
import { watchRuntime } from './runtime-watch.ts';
import { createSlots } from './slots.ts';
import { Turns } from './turns.ts';

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
  let floorMs = 0;
  const clock = systemClock(bootId(), () => floorMs);
  mkdirSync(options.rootDirectory, { recursive: true, mode: 0o750 });
  const { nativeBinding, rootDirectory } = options;
  const store = stack.use(
    openStore(rootDirectory, {
      clock,
      log,
      podsDirectory: `${rootDirectory}/pods`,
      ...(nativeBinding !== undefined && { nativeBinding }),
    }),
  );
  floorMs = store.timeFloor();
  log.info('starting', {
    version: options.version,
    node: options.nodeName,
    store: store.opening.state,
    pods: store.pods().length,
  });
  const agent = connect(options, { clock, log, store, trimHeap: () => libc?.trimHeap() }, stack);
  agent.desired.load();
  notifier.ready();
  if (notifier.watchdogMs !== undefined) {
    const beatMs = notifier.watchdogMs / 2;
    const beat = () => {
      notifier.watchdog();
      next = clock.at(clock.now().monoMs + beatMs, beat);
    };
    let next = clock.at(clock.now().monoMs, beat);
    stack.defer(() => next.cancel());
  }
  await agent.run(signal);
  notifier.stopping();
  log.info('stopping; the containers go on');
}

type Foundation = {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  readonly trimHeap: () => void;
};

type Agent = { readonly desired: Desired; run(signal: AbortSignal): Promise<void> };

function connect(options: AgentOptions, base: Foundation, stack: AsyncDisposableStack): Agent {
  const { clock, log, store } = base;
  const random = systemRandom();
  const cri = stack.use(openRuntime(options.runtimeEndpoint, { clock, random }));
  const paths: PodPaths = {
    rootDirectory: options.rootDirectory,
    logRoot: options.podLogsDirectory,
    linkDirectory: options.containerLogsDirectory,
  };
  const memoryBytes = memTotalBytes();
  const onEvent = (event: NewEvent) => store.recordEvent(event, clock.now());
  const memory = stack.use(createMemoryRelease(clock, base.trimHeap));
  const holds = new Holds((hold) => turns.hold(hold));
  const nodeCgroup = createNodeCgroup(options, clock, cri.runtime);
  const looks = new Looks({
    runtime: cri.runtime,
    epoch: () => cri.epoch(),
    onExited: (uid, ended) => withLastWords(paths, turns.workers.get(uid), ended),
    soon: (run) => clock.soon(run),
  });
  const images = createImages({
    service: cri.images,
    slots: createSlots(LIMITS.parallelPulls),
    clock,
    records: pullRecords(store),
  });
  const turns: Turns = new Turns({
    clock,
    store: (ledgers) => void store.putLedgers(ledgers),
    execute: createExecute({
      options,
      paths,
      runtime: cri.runtime,
      looks,
      images,
      starts: createSlots(LIMITS.parallelStarts),
      nodeCgroup,
      memoryBytes,
      onView: (worker, view) => turns.post(worker.uid, { type: 'Looked', view }),
      onEvent,
      log,
    }),
    lookSeq: () => looks.seq,
    onEvent,
    onDone: (worker) => desired.forget(worker),
    onTurn: () => memory.worked(),
    onStored: (fault) => holds.set('store', fault && fullHold(fault)),
  });
  const allocatable = { cpuMilli: cpuCount() * 1000, memoryBytes };
  const node = { name: options.nodeName, maxPods: options.maxPods, allocatable };
  const desired = new Desired({ store, turns, clock, log, node });
  const state: RuntimeState = {
    connected: false,
    version: undefined,
    networkReady: false,
    message: 'not connected yet',
  };
  holds.set('runtime', {
    reason: 'RuntimeNotReady',
    message: `waiting for the container runtime at ${options.runtimeEndpoint}`,
  });
  const unknown = new Set<string>();
  let swept = false;
  let manifestErrors: NodeReport['manifestErrors'] = [];
  let manifestPods: readonly Pod[] | undefined;
  const takeManifests = () => {
    if (manifestPods === undefined) return;
    try {
      desired.setManifests(manifestPods);
      manifestPods = undefined;
    } catch (error) {
      holds.set('store', fullHold(faultOf(error)));
    }
  };

  return {
    desired,
    run: async (signal) => {
      const api = createLocalApi({
        options,
        store,
        turns,
        desired,
        clock,
        random,
        runtime: state,
        cgroupDriver: () => nodeCgroup.driver(),
        hostIP,
        manifestErrors: () => manifestErrors,
        findings: () => findingsOf(store, state, unknown, holds),
        startedAt: rfc3339OfMs(clock.now().wallMs),
      });
      await using _server = await serveLocal(api, options.runDirectory, { log, signal });
      const manifests = watchManifests(options.manifestDirectory, {
        clock,
        log,
        nodeName: options.nodeName,
        previous: store.pods().flatMap(({ pod, source }) => (source === 'file' ? [pod] : [])),
        signal,
        onChange: (result) => {
          manifestErrors = result.errors;
          for (const error of result.errors) onEvent(manifestEvent(error));
          if (!result.synced) return;
          manifestPods = result.pods;
          takeManifests();
        },
      });
      const watch = watchRuntime(
        {
          runtime: cri.runtime,
          looks,
          clock,
          log,
          onChange: (uid) => {
            if (uid !== undefined) turns.post(uid, { type: 'Hint', seq: looks.seq });
          },
          onBack: async () => {
            await images.repair(signal);
            await nodeCgroup.open(signal);
            holds.set('runtime', undefined);
            turns.postAll({ type: 'RuntimeBack', seq: looks.seq });
          },
          onEverything: (everything) => {
            for (const [uid, view] of everything.views) turns.post(uid, { type: 'Looked', view });
            const orphans = orphansOf(everything, (uid) => turns.workers.has(uid), clock);
            keepOrEnd(orphans, store, turns, unknown, log);
            if (swept) return;
            swept = true;
            void sweep(paths, store, turns, everything, log, signal);
          },
        },
        state,
        signal,
      );
      const logs = keepLogsSmall(
        {
          logRoot: paths.logRoot,
          policy: {
            maxBytes: options.containerLogMaxBytes,
            maxFiles: options.containerLogMaxFiles,
            intervalMs: LOG_CHECK_MS,
          },
          clock,
          log,
          running: () => runningContainers(turns),
          reopen: (id, s) => cri.runtime.reopenContainerLog(id, s),
        },
        signal,
      );
      const again = storeAgain(turns, holds, takeManifests, clock, signal);
      await Promise.allSettled([manifests, watch, logs, again]);
      turns.stop(new Error('the agent is stopping'));
    },
  };
}

const LOG_CHECK_MS = 10_000;
const STORE_AGAIN_MS = 15_000;

/** While the disk is full, looks now and then whether it still is. */
async function storeAgain(
  turns: Turns,
  holds: Holds,
  takeManifests: () => void,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await clock.sleep(STORE_AGAIN_MS, signal);
    if (!holds.has('store')) continue;
    // If there is room again, one of these writes succeeds or there is nothing to write.
    holds.set('store', undefined);
    turns.storeAgain();
    takeManifests();
  }
}

/** Removes once, after the first look at everything, what former pods left on the disk. */
async function sweep(
  paths: PodPaths,
  store: Store,
  turns: Turns,
  everything: Everything,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  if (wasLost(store)) return;
  const isKnown = (uid: string) => turns.workers.has(uid) || everything.views.has(uid);
  try {
    await removeForgottenPods(paths, isKnown, signal);
    await removeDeadLogLinks(paths);
  } catch (error) {
    log.warn('cannot remove what former pods left', { message: faultOf(error).message });
  }
}

/** The store may not know of all that should run. */
function wasLost(store: Store): boolean {
  return store.opening.state === 'restored' || store.opening.state === 'rebuilt';
}

/** The containers whose logs grow. */
function* runningContainers(turns: Turns) {
  for (const { want, seen } of turns.workers.values()) {
    for (const { id, name, attempt, state } of seen.view?.containers ?? []) {
      if (state === 'CONTAINER_RUNNING') yield { id, pod: want.pod, name, attempt };
    }
  }
}

/** Ends pods that nobody wants; keeps them if the store that would know of them was lost. */
function keepOrEnd(
  orphans: readonly Want[],
  store: Store,
  turns: Turns,
  unknown: Set<string>,
  log: Log,
): void {
  const lost = wasLost(store);
  unknown.clear();
  for (const want of orphans) {
    const { namespace, name, uid } = want.pod.metadata;
    if (lost) {
      unknown.add(`${namespace}/${name}`);
      continue;
    }
    log.warn('ending a pod that nobody wants', { pod: `${namespace}/${name}`, uid });
    turns.add(want, undefined);
  }
}

function manifestEvent({ path, message }: NodeReport['manifestErrors'][number]): NewEvent {
  return {
    type: 'Warning',
    reason: 'InvalidManifest',
    message,
    object: { kind: 'Manifest', name: path },
  };
}

/** The first address of the node that others can reach. */
function hostIP(): string | undefined {
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { family, internal, address } of addresses ?? []) {
      if (family === 'IPv4' && !internal && !address.startsWith('169.254.')) return address;
    }
  }
  return undefined;
}
