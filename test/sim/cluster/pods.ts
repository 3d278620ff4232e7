/** Pods as an API server has them, and how their processes behave. */
import type { Random } from '../../../src/base/random.ts';
import { between, chance, pick } from '../choose.ts';
import { WELL, type Behaviour } from '../pods.ts';
import type { Json } from './api-server.ts';
import { NODE_NAME } from './node.ts';

export const CPU_MILLI = 4000;

export type Specimen = {
  readonly spec: Json;
  readonly cpuMilli: number;
  readonly graceSeconds: number;
  readonly restartPolicy: string;
};

export function randomSpec(random: Random): Specimen {
  const restartPolicy = pick(random, ['Always', 'Always', 'OnFailure', 'Never']);
  const graceSeconds = pick(random, [0, 1, 5, 30, 60]);
  const names = chance(random, 0.2) ? ['a', 'b'] : ['a'];
  const each = pick(random, [100, 500, 1000, 2500]);
  const hostPort = chance(random, 0.15);
  const containers = names.map((name) => ({
    name,
    ...{ image: 'busybox', imagePullPolicy: 'IfNotPresent', terminationMessagePolicy: 'File' },
    resources: { requests: { cpu: `${each}m` } },
    ...(hostPort && name === 'a' ? { ports: [{ containerPort: 80, hostPort: 8080 }] } : {}),
  }));
  const init = { name: 'init', image: 'busybox', imagePullPolicy: 'IfNotPresent' };
  const spec = {
    ...{ containers, restartPolicy, nodeName: NODE_NAME, dnsPolicy: 'Default' },
    terminationGracePeriodSeconds: graceSeconds,
    ...(chance(random, 0.2) ? { initContainers: [init] } : {}),
    // What limpet does not carry out is refused, and its object left alone.
    ...(chance(random, 0.03) ? { volumes: [{ name: 'v', nfs: { server: 's', path: '/' } }] } : {}),
  };
  return { spec, cpuMilli: each * names.length, graceSeconds, restartPolicy };
}

export function randomBehaviour(random: Random, name: string, restartPolicy: string): Behaviour {
  const isInit = name === 'init';
  const kinds =
    restartPolicy === 'Always'
      ? (['service', 'service', 'crasher'] as const)
      : (['task', 'service', 'crasher'] as const);
  const kind = isInit ? 'task' : pick(random, kinds);
  return {
    kind,
    minRunMs: 500,
    maxRunMs: isInit ? 2000 : pick(random, [5000, 120_000]),
    exitCodes: isInit ? [0] : kind === 'crasher' ? [1, 137] : [0, 0, 1],
    ignoresTerm: chance(random, 0.2),
    termMs: between(random, 1, 3000),
    health: WELL,
  };
}
