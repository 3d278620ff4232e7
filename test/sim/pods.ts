/** Pods of all kinds from a seeded stream, and how their processes behave. */
import type { Random } from '../../src/base/random.ts';
import type { Container, Pod, PodSpec, Probe, Volume } from '../../src/kube/pod.ts';
import { aContainer, aPod } from '../pod/a-pod.ts';
import { between, chance, pick } from './choose.ts';

/** How the process of one container behaves; the agent can't know. */
export type Behaviour = {
  /** A service runs on; a task ends by itself; a crasher is a service that ends all the same. */
  readonly kind: 'service' | 'task' | 'crasher';
  readonly minRunMs: number;
  readonly maxRunMs: number;
  readonly exitCodes: readonly number[];
  readonly ignoresTerm: boolean;
  /** How long it takes to end after SIGTERM. */
  readonly termMs: number;
  readonly health: Health;
};

/** What probes and hooks find. In the calm all are well. */
export type Health = {
  /** After its start its startup probe fails for so long. */
  readonly startingMs: number;
  /** So long after its start its liveness probe begins to fail. */
  readonly sickMs: number;
  /** Its readiness probe changes its mind each time this has passed. */
  readonly flapMs: number;
  readonly postStartMs: number;
  readonly postStartFails: boolean;
  /** `Infinity` hangs. */
  readonly preStopMs: number;
};

export const WELL: Health = {
  ...{ startingMs: 0, sickMs: Infinity, flapMs: Infinity },
  ...{ postStartMs: 0, postStartFails: false, preStopMs: 0 },
};

export type Specimen = { readonly pod: Pod; readonly behaviours: Record<string, Behaviour> };

export const IMAGES = ['busybox', 'nginx', 'job', 'rare'] as const;

/** A container with the defaults filled in, as the parser leaves it. */
export function container(name: string, over: Partial<Container> = {}): Container {
  return aContainer({ name, image: 'busybox', ...over });
}

/** A pod with the defaults filled in. */
export function pod(uid: string, spec: Partial<PodSpec>): Pod {
  return aPod({ containers: [container('a')], ...spec }, { name: `pod-${uid}`, uid });
}

export function randomPod(random: Random, uid: string): Specimen {
  const restartPolicy = pick(random, ['Always', 'OnFailure', 'Never', 'Never'] as const);
  const behaviours: Record<string, Behaviour> = {};
  const names = ['a', 'b', 'c'].slice(0, between(random, 1, chance(random, 0.3) ? 3 : 2));
  const containers = names.map((name) => {
    behaviours[name] = mainBehaviour(random, restartPolicy !== 'Always');
    return container(name, imageOf(random));
  });
  const initContainers: Container[] = [];
  const inits = chance(random, 0.5) ? between(random, 1, 3) : 0;
  for (let i = 0; i < inits; i += 1) {
    const isSidecar = chance(random, 0.45);
    const name = `${isSidecar ? 'side' : 'init'}-${i}`;
    behaviours[name] = isSidecar ? mainBehaviour(random, false) : initBehaviour(random);
    const over = imageOf(random);
    initContainers.push(container(name, isSidecar ? { ...over, restartPolicy: 'Always' } : over));
  }
  // A stream of its own: without it the pods are what they were.
  const health = random.fork('health');
  const isProbed = chance(health, 0.5);
  const withHealth = (one: Container): Container => {
    if (!isProbed || (initContainers.includes(one) && one.restartPolicy === undefined)) return one;
    behaviours[one.name] = { ...behaviours[one.name]!, health: randomHealth(health) };
    return { ...one, ...randomProbes(health) };
  };
  const volumes: Volume[] = [];
  if (chance(random, 0.4)) volumes.push({ name: 'scratch', kind: 'emptyDir', medium: '' });
  if (chance(random, 0.2)) volumes.push({ name: 'memory', kind: 'emptyDir', medium: 'Memory' });
  return {
    behaviours,
    pod: pod(uid, {
      containers: containers.map(withHealth),
      initContainers: initContainers.map(withHealth),
      volumes,
      restartPolicy,
      terminationGracePeriodSeconds: pick(random, [0, 1, 5, 30, 30, 60]),
      ...(chance(random, 0.15) ? { activeDeadlineSeconds: between(random, 5, 400) } : {}),
    }),
  };
}

function randomHealth(random: Random): Health {
  return {
    startingMs: pick(random, [0, 500, 3000, 20_000]),
    sickMs: chance(random, 0.4) ? between(random, 0, 60_000) : Infinity,
    flapMs: pick(random, [Infinity, 700, 15_000]),
    postStartMs: pick(random, [1, 300, 4000, 60_000]),
    postStartFails: chance(random, 0.15),
    preStopMs: pick(random, [1, 900, 4000, 25_000, Infinity]),
  };
}

function randomProbes(random: Random): Partial<Container> {
  const graced = () =>
    chance(random, 0.4) ? { terminationGracePeriodSeconds: between(random, 1, 20) } : {};
  const hook = { kind: 'exec', command: ['x'] } as const;
  const lifecycle = {
    ...(chance(random, 0.3) ? { postStart: hook } : {}),
    ...(chance(random, 0.5) ? { preStop: hook } : {}),
  };
  return {
    ...(chance(random, 0.4) ? { startupProbe: { ...randomProbe(random), ...graced() } } : {}),
    ...(chance(random, 0.5) ? { livenessProbe: { ...randomProbe(random), ...graced() } } : {}),
    ...(chance(random, 0.5)
      ? { readinessProbe: { ...randomProbe(random), successThreshold: between(random, 1, 2) } }
      : {}),
    ...(Object.keys(lifecycle).length === 0 ? {} : { lifecycle }),
  };
}

function randomProbe(random: Random): Probe {
  return {
    handler: { kind: 'exec', command: ['x'] },
    initialDelaySeconds: pick(random, [0, 0, 3]),
    timeoutSeconds: 1,
    periodSeconds: pick(random, [1, 3, 10]),
    successThreshold: 1,
    failureThreshold: between(random, 1, 3),
  };
}

function imageOf(random: Random): Pick<Container, 'image' | 'imagePullPolicy'> {
  const image = pick(random, IMAGES);
  const imagePullPolicy = chance(random, 0.2) ? 'Always' : 'IfNotPresent';
  return { image, imagePullPolicy };
}

function mainBehaviour(random: Random, mayEnd: boolean): Behaviour {
  const kind = mayEnd
    ? pick(random, ['task', 'task', 'service', 'crasher'] as const)
    : pick(random, ['service', 'crasher'] as const);
  const isLong = chance(random, 0.3);
  return {
    kind,
    minRunMs: isLong ? 30_000 : 5,
    maxRunMs: isLong ? 900_000 : 20_000,
    exitCodes: kind === 'crasher' ? [1, 1, 0, 139] : [0, 0, 0, 1],
    ignoresTerm: chance(random, 0.25),
    termMs: pick(random, [1, 50, 900, 4000]),
    health: WELL,
  };
}

function initBehaviour(random: Random): Behaviour {
  return {
    kind: 'task',
    minRunMs: 5,
    maxRunMs: pick(random, [50, 2000, 20_000]),
    exitCodes: chance(random, 0.3) ? [0, 1] : [0],
    ignoresTerm: chance(random, 0.2),
    termMs: pick(random, [1, 50, 900]),
    health: WELL,
  };
}
