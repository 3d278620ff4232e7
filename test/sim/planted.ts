/**
 * Bugs planted on purpose: they measure the simulator. Each wraps the core or the glue of the
 * model; nothing of them is in the product. A simulator that does not find one of them is blind.
 */
import type { Container } from '../../src/kube/pod.ts';
import type { Action, ContainerLedger, Ledger, Seen, Want } from '../../src/pod/model.ts';
import type { Core, GlueBugs } from './agent.ts';

export type Bug = {
  readonly name: string;
  /** Invariants that it must be found by. */
  readonly foundBy: readonly string[];
  readonly wrap?: (core: Core) => Core;
  readonly bugs?: GlueBugs;
};

export const PLANTED: readonly Bug[] = [
  {
    name: 'the start intent is not stored',
    foundBy: ['I-03'],
    bugs: { onStore: (ledger) => eachContainer(ledger, ({ intent: _, ...rest }) => rest) },
  },
  {
    name: 'effects begin before the ledger is stored',
    foundBy: ['I-03', 'I-06', 'backoff'],
    bugs: { beginsBeforeStoring: true },
  },
  {
    name: 'an old view passes for a fresh one',
    foundBy: ['I-01', 'I-02', 'I-03', 'I-20', 'I-22'],
    wrap: ({ reduce, plan }) => ({
      reduce: (...args) => ({ ...reduce(...args), staleSeq: 0 }),
      plan,
    }),
  },
  {
    name: 'the end of a stop is trusted instead of looking',
    foundBy: ['I-11', 'I-12', 'I-07'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (want, seen, event, now) => {
        const next = reduce(want, seen, event, now);
        const isStop = event.type === 'ActionEnded' && event.action.type === 'StopContainer';
        if (!isStop || next === seen) return next;
        return reduce(want, asEnded(next, event.action, seen.staleSeq), { type: 'Tick' }, now);
      },
    }),
  },
  {
    name: 'a failed start counts as a run that failed',
    foundBy: ['I-01', 'I-02', 'I-03', 'I-20'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (want, seen, event, now) => {
        const next = reduce(want, seen, event, now);
        if (event.type !== 'ActionEnded' || event.result.ok || next === seen) return next;
        if (event.action.type !== 'StartContainer') return next;
        const { name, attempt, sandboxAttempt } = event.action;
        const container = next.ledger.containers[name];
        if (container === undefined || container.outcome !== undefined) return next;
        const outcome = {
          ...{ attempt, sandboxAttempt, exitCode: 128, reason: 'StartError', seenAt: now },
        };
        const ledger = withContainer(next.ledger, name, { ...container, outcome });
        return { ...next, ledger };
      },
    }),
  },
  {
    name: 'the crash-loop backoff is forgotten when the agent restarts',
    foundBy: ['backoff'],
    bugs: { onLoad: (ledger) => eachContainer(ledger, ({ backoff: _, ...rest }) => rest) },
  },
  {
    name: 'restart counts start again when the agent restarts',
    foundBy: ['I-06'],
    bugs: { onLoad: (ledger) => ({ ...ledger, containers: {} }) },
  },
  {
    name: 'init containers run in the wrong order',
    foundBy: ['I-07'],
    wrap: withSpec((inits) => inits.toReversed()),
  },
  {
    name: 'nobody waits for a sidecar to run',
    foundBy: ['I-07'],
    wrap: withSpec((inits) => [
      ...inits.filter((c) => c.restartPolicy === undefined),
      ...inits.filter((c) => c.restartPolicy === 'Always'),
    ]),
  },
  {
    name: 'completed init containers run again after a restart of the agent',
    foundBy: ['I-07', 'I-05', 'I-03'],
    bugs: {
      onLoad: (ledger) =>
        eachContainer(ledger, ({ outcome, ...rest }, name) =>
          name.startsWith('init') && outcome !== undefined
            ? { ...rest, outcome: { ...outcome, exitCode: 1 } }
            : { ...rest, ...(outcome && { outcome }) },
        ),
    },
  },
  {
    name: 'stops have no grace',
    foundBy: ['I-11'],
    wrap: withActions((action) =>
      action.type === 'StopContainer' ? { ...action, graceSeconds: 0 } : action,
    ),
  },
  {
    name: 'the whole grace is given again when the agent restarts',
    foundBy: ['I-11'],
    bugs: { onLoad: (ledger) => eachContainer(ledger, ({ stopping: _, ...rest }) => rest) },
  },
  {
    name: 'a shorter grace is not heeded',
    foundBy: ['I-11'],
    wrap: ({ reduce, plan }) => ({ reduce, plan: (...args) => ({ ...plan(...args), cancel: [] }) }),
  },
  {
    name: 'the ledger is stored at each turn',
    foundBy: ['I-22'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (...args) => {
        const next = reduce(...args);
        return { ...next, ledger: { ...next.ledger } };
      },
    }),
  },
  {
    name: 'Never starts again after a reboot',
    foundBy: ['I-03'],
    bugs: {
      onLoad: (ledger, now) =>
        eachContainer(ledger, ({ intent, ...rest }) =>
          intent === undefined || intent.at.boot !== now.boot ? rest : { ...rest, intent },
        ),
    },
  },
  {
    name: 'a terminal phase is left when the agent restarts',
    foundBy: ['I-02'],
    bugs: {
      onLoad: ({ terminal: _, ending: __, ...ledger }) =>
        eachContainer(ledger, ({ outcome: ___, ...rest }) => rest),
    },
  },
  {
    name: 'delays are measured with the wall clock',
    foundBy: ['I-17', 'backoff', 'I-11'],
    wrap: ({ reduce, plan }) => ({
      reduce,
      plan: (want, seen, now) => plan(want, seen, { ...now, boot: 'unknown' }),
    }),
  },
  {
    name: 'a sandbox that failed is made again without looking',
    foundBy: ['I-01'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (want, seen, event, now) => {
        const next = reduce(want, seen, event, now);
        const isRun = event.type === 'ActionEnded' && event.action.type === 'RunPodSandbox';
        const isRepeat = isRun && !event.result.ok && next.ledger.ending === undefined;
        return isRepeat ? { ...next, staleSeq: seen.staleSeq } : next;
      },
    }),
  },
  {
    name: 'a sandbox that cannot be removed is in the way for ever',
    foundBy: ['I-04'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (...args) => {
        const next = reduce(...args);
        const retries = Object.entries(next.retries).map(
          ([key, retry]) => [key, { ...retry, failures: Math.min(retry.failures, 1) }] as const,
        );
        return { ...next, retries: Object.fromEntries(retries) };
      },
    }),
  },
  {
    name: 'what was created in a former sandbox waits until that is removed',
    foundBy: ['I-04', 'I-22'],
    wrap: withPlan((_, { view, ledger }, start) => {
      const current = view?.sandboxes.find((s) => s.state === 'SANDBOX_READY');
      const isElsewhere = (id: string) =>
        view?.containers.some(
          (c) => c.id === id && c.podSandboxId !== current?.id && c.state === 'CONTAINER_CREATED',
        ) === true;
      if (current === undefined || ledger.ending !== undefined) return start;
      return start.filter((action) => action.type !== 'RemoveContainer' || !isElsewhere(action.id));
    }),
  },
  {
    name: 'what failed is tried again at once, for ever',
    foundBy: ['I-22'],
    wrap: ({ reduce, plan }) => ({
      reduce: (...args) => ({ ...reduce(...args), retries: {} }),
      plan,
    }),
  },
  {
    name: 'nobody asks to be woken',
    foundBy: ['I-22', 'I-04'],
    wrap: ({ reduce, plan }) => ({
      reduce,
      plan: (...args) => {
        const { wakeAtMonoMs: _, ...rest } = plan(...args);
        return rest;
      },
    }),
  },
  {
    name: 'an order is acknowledged before it is stored',
    foundBy: ['I-16'],
    bugs: { acknowledgesBeforeStoring: true },
  },
  {
    name: 'OnFailure runs again what had succeeded',
    foundBy: ['I-05'],
    wrap: ({ reduce, plan }) => ({ reduce, plan: (want, ...rest) => plan(always(want), ...rest) }),
  },
  {
    name: 'what runs is not taken over when the ledger is lost',
    foundBy: ['I-20', 'I-03', 'I-06'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (want, seen, event, now) => {
        const next = reduce(want, seen, event, now);
        if (event.type !== 'Looked') return next;
        const known = Object.entries(next.ledger.containers).filter(
          ([name]) => seen.ledger.containers[name] !== undefined,
        );
        if (known.length === Object.keys(next.ledger.containers).length) return next;
        return { ...next, ledger: { ...next.ledger, containers: Object.fromEntries(known) } };
      },
    }),
  },
  {
    name: 'what a probe said of a former run counts for the next one',
    foundBy: ['probe', 'I-20'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (want, seen, event, now) => {
        if (event.type !== 'Probed') return reduce(want, seen, event, now);
        const attempt = seen.ledger.containers[event.name]?.attempt;
        const its = seen.view?.containers.find(
          (c) => c.name === event.name && c.attempt === attempt,
        );
        return reduce(want, seen, { ...event, id: its?.id ?? event.id }, now);
      },
    }),
  },
  {
    name: 'a probe that fails stops the other containers too',
    foundBy: ['probe', 'I-20'],
    wrap: ({ reduce, plan }) => ({
      plan,
      reduce: (want, seen, event, now) => {
        const next = reduce(want, seen, event, now);
        if (event.type !== 'Probed' || next.ledger === seen.ledger) return next;
        const { kill } = next.ledger.containers[event.name]!;
        if (kill === undefined) return next;
        return { ...next, ledger: eachContainer(next.ledger, (c) => ({ ...c, kill })) };
      },
    }),
  },
  {
    name: 'what a preStop hook took of the grace is given back',
    foundBy: ['I-11'],
    wrap: withPlan((want, seen, start) =>
      start.map((action) =>
        action.type === 'StopContainer' && seen.ledger.containers[action.name]?.preStop === 'done'
          ? { ...action, graceSeconds: seen.ledger.ending?.graceSeconds ?? graceOf(want) }
          : action,
      ),
    ),
  },
  {
    name: 'a preStop hook that hangs is waited for',
    foundBy: ['I-11', 'I-12', 'I-04'],
    wrap: ({ reduce, plan }) => ({
      reduce,
      plan: (want, seen, now) => {
        const next = plan(want, seen, now);
        const isHook = (key: string) => seen.inFlight[key]?.action.type === 'RunPreStop';
        return { ...next, cancel: next.cancel.filter((key) => !isHook(key)) };
      },
    }),
  },
  {
    name: 'preStop hooks are left out',
    foundBy: ['hook'],
    wrap: withPlan((want, seen, start) =>
      start.map((action) => {
        if (action.type !== 'RunPreStop') return action;
        const { key, name, id } = action;
        const graceSeconds = seen.ledger.ending?.graceSeconds ?? graceOf(want);
        return { type: 'StopContainer', key, name, id, graceSeconds };
      }),
    ),
  },
  {
    name: 'nobody waits for the startup probe of a sidecar',
    foundBy: ['I-07'],
    wrap: withSpec((inits) => inits.map(({ startupProbe: _, ...rest }) => rest)),
  },
  {
    name: 'sidecars are stopped together with the others',
    foundBy: ['I-07'],
    wrap: withPlan((want, seen, start) => {
      if (seen.ledger.ending === undefined) return start;
      const stop = start.find((action) => action.type === 'StopContainer');
      const sidecars = want.pod.spec.initContainers.filter((c) => c.restartPolicy === 'Always');
      const alive = (seen.view?.containers ?? []).filter(
        (c) => c.state === 'CONTAINER_RUNNING' && sidecars.some((s) => s.name === c.name),
      );
      if (stop === undefined) return start;
      const more = alive.map((c) => ({
        ...stop,
        key: `container/${c.name}`,
        name: c.name,
        id: c.id,
      }));
      const keys = new Set([...start.map((a) => a.key), ...Object.keys(seen.inFlight)]);
      return [...start, ...more.filter((action) => !keys.has(action.key))];
    }),
  },
  {
    name: 'the pod is forgotten before its volumes are down',
    foundBy: ['I-12'],
    wrap: withActions((action) => (action.type === 'TearDownVolume' ? undefined : action), true),
  },
  {
    name: 'a sandbox is removed with live containers in it',
    foundBy: ['I-11'],
    wrap: withPlan((_, seen, start) => {
      if (seen.ledger.ending === undefined) return start;
      return start.map((action) =>
        action.type === 'StopContainer'
          ? {
              type: 'StopPodSandbox',
              key: action.key,
              id: seen.view!.containers.find((c) => c.id === action.id)!.podSandboxId,
            }
          : action,
      );
    }),
  },
];

function withContainer(ledger: Ledger, name: string, container: ContainerLedger): Ledger {
  return { ...ledger, containers: { ...ledger.containers, [name]: container } };
}

function eachContainer(
  ledger: Ledger,
  change: (container: ContainerLedger, name: string) => ContainerLedger,
): Ledger {
  const containers = Object.entries(ledger.containers).map(
    ([name, container]) => [name, change(container, name)] as const,
  );
  return { ...ledger, containers: Object.fromEntries(containers) };
}

/** The plan's actions, changed. */
function withPlan(
  change: (want: Want, seen: Seen, start: readonly Action[]) => readonly Action[],
): (core: Core) => Core {
  return ({ reduce, plan }) => ({
    reduce,
    plan: (want, seen, now) => {
      const next = plan(want, seen, now);
      return { ...next, start: change(want, seen, next.start) };
    },
  });
}

function withActions(
  change: (action: Action) => Action | undefined,
  claimsVolumesDown = false,
): (core: Core) => Core {
  return (core) => {
    const { reduce, plan } = withPlan((_, __, start) =>
      start.map(change).filter((action) => action !== undefined),
    )(core);
    if (!claimsVolumesDown) return { reduce, plan };
    return {
      reduce,
      plan: (want, seen, now) => {
        const down = want.pod.spec.volumes.map(({ name }) => [name, 'down'] as const);
        const isEnding = seen.ledger.ending !== undefined;
        return plan(want, isEnding ? { ...seen, volumes: Object.fromEntries(down) } : seen, now);
      },
    };
  };
}

/** A core that plans with other init containers than were asked for. */
function withSpec(
  change: (initContainers: readonly Container[]) => readonly Container[],
): (core: Core) => Core {
  const known = new WeakMap<Want, Want>();
  const changed = (want: Want): Want => {
    let other = known.get(want);
    if (other === undefined) {
      const { spec } = want.pod;
      const initContainers = change(spec.initContainers);
      other = { ...want, pod: { ...want.pod, spec: { ...spec, initContainers } } };
      known.set(want, other);
    }
    return other;
  };
  return ({ reduce, plan }) => ({
    reduce,
    plan: (want, seen, now) =>
      plan(seen.ledger.ending === undefined ? changed(want) : want, seen, now),
  });
}

function graceOf(want: Want): number {
  return want.pod.spec.terminationGracePeriodSeconds;
}

function always(want: Want): Want {
  const spec = { ...want.pod.spec, restartPolicy: 'Always' as const };
  return want.pod.spec.restartPolicy === 'OnFailure'
    ? { ...want, pod: { ...want.pod, spec } }
    : want;
}

function asEnded(seen: Seen, action: Action, staleSeq: number): Seen {
  const { view } = seen;
  if (view === undefined || action.type !== 'StopContainer') return seen;
  const containers = view.containers.map((c) =>
    c.id === action.id ? { ...c, state: 'CONTAINER_EXITED' as const } : c,
  );
  return { ...seen, staleSeq, view: { ...view, containers } };
}
