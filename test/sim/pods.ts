/** Pods of all kinds from a seeded stream, and how their processes behave. */
import type { Random } from '../../src/base/random.ts';
import type { Container, Pod, PodSpec, Volume } from '../../src/kube/pod.ts';
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
  const volumes: Volume[] = [];
  if (chance(random, 0.4)) volumes.push({ name: 'scratch', kind: 'emptyDir', medium: '' });
  if (chance(random, 0.2)) volumes.push({ name: 'memory', kind: 'emptyDir', medium: 'Memory' });
  return {
    behaviours,
    pod: pod(uid, {
      containers,
      initContainers,
      volumes,
      restartPolicy,
      terminationGracePeriodSeconds: pick(random, [0, 1, 5, 30, 30, 60]),
      ...(chance(random, 0.15) ? { activeDeadlineSeconds: between(random, 5, 400) } : {}),
    }),
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
  };
}
