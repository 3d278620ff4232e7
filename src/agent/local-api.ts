/** The agent's side of the local socket: `limpet apply`, `delete`, `status` and the rest. */
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Random } from '../base/random.ts';
import { formatProblem } from '../kube/manifest-node.ts';
import type {
  BrokerReport,
  BoardReport,
  ClusterReport,
  DeleteReport,
  Finding,
  LocalApi,
  NodeReport,
  PodReport,
} from '../server/api.ts';
import { ApiError } from '../server/api.ts';
import { decideApply } from '../source/apply.ts';
import { readManifest } from '../source/read-manifest.ts';
import type { Store } from '../store/store.ts';
import type { Desired } from './desired.ts';
import type { AgentOptions } from './options.ts';
import { rfc3339OfMs } from '../pod/reduce.ts';
import { podList } from './report.ts';
import type { RuntimeState } from './runtime-watch.ts';
import type { ReadUsage } from '../usage/usage.ts';
import type { Turns } from './turns.ts';

export type LocalApiOptions = {
  readonly options: AgentOptions;
  readonly store: Store;
  readonly turns: Turns;
  readonly desired: Desired;
  readonly clock: Clock;
  readonly random: Random;
  readonly runtime: RuntimeState;
  readonly cgroupDriver: () => string;
  readonly cluster: () => ClusterReport | undefined;
  readonly relay: () => BrokerReport | undefined;
  readonly board: () => BoardReport;
  readonly usage: ReadUsage;
  readonly hostIP: () => string | undefined;
  readonly manifestErrors: () => NodeReport['manifestErrors'];
  readonly findings: () => readonly Finding[];
  readonly startedAt: string;
};

/** What the socket serves. */
export function createLocalApi(context: LocalApiOptions): LocalApi {
  const { store, turns, desired, clock } = context;
  const pods = () => podList(turns.workers.values(), clock.now(), context.hostIP());
  return {
    status: () => nodeReport(context, pods().items),
    pods,
    usage: context.usage,
    events: (filter) => ({ kind: 'EventList', items: store.events(filter) }),
    apply: async (manifest) => {
      const { pods: parsed, problems } = await readManifest(manifest, 'local');
      if (problems.length > 0) {
        tellOfRefusal(
          context,
          problems.map((p) => formatProblem(undefined, p)),
        );
        throw invalid(problems.map((p) => formatProblem(FILE, p)));
      }
      const stored = [...turns.workers.values()].map(({ want }) => ({
        pod: want.pod,
        source: want.source,
        deleting: want.deletion !== undefined,
      }));
      const decision = decideApply(parsed, stored, {
        nodeName: context.options.nodeName,
        uuid: () => context.random.uuid(),
        createdAt: rfc3339OfMs(clock.now().wallMs),
      });
      if (!decision.ok) {
        tellOfRefusal(context, decision.problems);
        throw invalid(decision.problems);
      }
      const added = decision.items.filter(({ action }) => action !== 'unchanged');
      const replaced = added.flatMap(({ replaces }) => turns.workers.get(replaces ?? '') ?? []);
      durably(() =>
        desired.apply(
          added.map(({ pod }) => pod),
          replaced,
        ),
      );
      const items = decision.items.map(({ action, pod: { metadata } }) => ({
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        action,
      }));
      return { kind: 'ApplyReport', items };
    },
    deletePod: (namespace, name, graceSeconds) => {
      const worker = [...turns.workers.values()].find(
        ({ want: { pod, deletion } }) =>
          pod.metadata.namespace === namespace &&
          pod.metadata.name === name &&
          (deletion === undefined || graceSeconds !== undefined),
      );
      if (worker === undefined) {
        throw new ApiError(404, {
          reason: 'NotFound',
          message: `pod "${name}" not found in namespace "${namespace}"`,
        });
      }
      if (worker.want.source === 'file') {
        throw new ApiError(409, {
          reason: 'Conflict',
          message:
            `pod "${name}" comes from a manifest file: remove its file from ` +
            `${context.options.manifestDirectory ?? 'its folder'} to end it`,
        });
      }
      durably(() => desired.remove(worker, graceSeconds));
      const report: DeleteReport = { kind: 'DeleteReport', namespace, name, uid: worker.uid };
      return Promise.resolve(report);
    },
  };
}

/** How problems name the manifest; the command puts the name of the file in its place. */
const FILE = 'manifest';

function invalid(problems: readonly string[]): ApiError {
  const many = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
  const message = `the manifest has ${many}; nothing was changed`;
  return new ApiError(422, { reason: 'Invalid', message, problems });
}

/** Events of what was refused, for who looks later or stands elsewhere. */
function tellOfRefusal({ store, clock }: LocalApiOptions, problems: readonly string[]): void {
  for (const message of problems.slice(0, MAX_PROBLEM_EVENTS)) {
    const object = { kind: 'Manifest', name: 'apply' } as const;
    const event = { type: 'Warning', reason: 'InvalidManifest', message, object } as const;
    store.recordEvent(event, clock.now());
  }
}

const MAX_PROBLEM_EVENTS = 10;

function durably(write: () => void): void {
  try {
    write();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    throw new ApiError(503, {
      reason: 'Unavailable',
      message: `nothing was changed, since it could not be stored: ${error.message}`,
    });
  }
}

function nodeReport(context: LocalApiOptions, pods: readonly PodReport[]): NodeReport {
  const { options, store, runtime } = context;
  const count = (phase: string) => pods.filter(({ status }) => status.phase === phase).length;
  const health = store.health();
  const cluster = context.cluster();
  const relay = context.relay();
  return {
    kind: 'NodeReport',
    nodeName: options.nodeName,
    version: options.version,
    agentStartedAt: context.startedAt,
    bootId: context.clock.now().boot,
    runtime: {
      name: runtime.version?.runtimeName ?? 'unknown',
      version: runtime.version?.runtimeVersion ?? 'unknown',
      socket: options.runtimeEndpoint,
      connected: runtime.connected,
      networkReady: runtime.networkReady,
      ...(runtime.message !== undefined && { message: runtime.message }),
    },
    cgroupDriver: context.cgroupDriver(),
    ...(cluster !== undefined && { cluster }),
    ...(relay !== undefined && { relay }),
    board: context.board(),
    store: {
      path: options.rootDirectory,
      state: health.ok ? store.opening.state : health.fault.code,
      message: health.ok ? store.opening.message : health.fault.message,
    },
    pods: {
      desired: pods.length,
      running: count('Running'),
      pending: count('Pending'),
      succeeded: count('Succeeded'),
      failed: count('Failed'),
    },
    findings: context.findings(),
    manifestErrors: context.manifestErrors(),
    pod: pods,
  };
}
