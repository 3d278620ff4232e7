/** What people and controllers want of the cluster and of the board. */
import type { Random } from '../../../src/base/random.ts';
import type { Pod } from '../../../src/kube/pod.ts';
import { aContainer, aPod } from '../../pod/a-pod.ts';
import { chance, pick } from '../choose.ts';
import type { Behaviour } from '../pods.ts';
import { isMirror, type ApiServer, type PodObject } from './api-server.ts';
import type { Facts } from './facts.ts';
import { NODE_NAME, type Node } from './node.ts';
import { randomBehaviour, randomSpec } from './pods.ts';
import { Crash, type Time } from './time.ts';

export type PeoplePorts = {
  readonly random: Random;
  readonly time: Time;
  readonly server: ApiServer;
  readonly facts: Facts;
  readonly behaviours: Map<string, Behaviour>;
  readonly node: () => Node | undefined;
};

const MAX_PODS = 5;
const NAMES = ['web', 'db', 'job', 'cam', 'log'];

export class People {
  /** What the manifest folder has. */
  manifests: readonly Pod[] = [];
  readonly #ports: PeoplePorts;

  constructor(ports: PeoplePorts) {
    this.#ports = ports;
  }

  order(): void {
    const objects = [...this.#ports.server.objects.values()];
    const own = objects.filter((object) => !isMirror(object));
    const some = own.length === 0 ? undefined : pick(this.#ports.random, own);
    const lot = this.#ports.random.next();
    if (some === undefined || (lot < 0.4 && own.length < MAX_PODS)) return this.create();
    if (lot < 0.6) return this.delete(some, pick(this.#ports.random, [1, 5, 30, 60]));
    if (lot < 0.68) return this.delete(some, 0);
    if (lot < 0.78) return this.replace(some);
    if (lot < 0.86) return this.change(some);
    if (lot < 0.93) {
      const mirror = objects.find(isMirror);
      if (mirror !== undefined)
        this.#ports.server.remove(mirror, pick(this.#ports.random, [0, 30]));
      return;
    }
    this.changeManifests();
  }

  create(name = pick(this.#ports.random, NAMES)): void {
    const random = this.#ports.random.fork(`pod ${this.#ports.time.steps}`);
    const { spec, cpuMilli, graceSeconds, restartPolicy } = randomSpec(random);
    const object = this.#ports.server.create(name, spec);
    if (object === undefined) return;
    const { uid, namespace } = object.metadata;
    this.#ports.facts.add({
      ...{ uid, namespace, name, source: 'api', cpuMilli, graceSeconds, restartPolicy },
      version: Number(object.metadata.resourceVersion),
    });
    for (const container of ['init', 'a', 'b']) {
      this.#ports.behaviours.set(
        `${uid}/${container}`,
        randomBehaviour(random, container, restartPolicy),
      );
    }
  }

  delete(object: PodObject, graceSeconds: number): void {
    this.#ports.server.remove(object, graceSeconds);
  }

  /** By force, and another one of the same name: what a StatefulSet does with a lost node. */
  replace(object: PodObject): void {
    this.delete(object, 0);
    this.create(object.metadata.name);
  }

  change(object: PodObject): void {
    if (chance(this.#ports.random, 0.5)) {
      return this.#ports.server.annotate(object, { note: String(this.#ports.time.steps) });
    }
    const containers = object.spec['containers'] as readonly { readonly name: string }[];
    const image = pick(this.#ports.random, ['busybox', 'nginx', 'job']);
    const fact = this.#ports.facts.all.get(object.metadata.uid)!;
    // A change that the node learns of late concerns what was started meanwhile as well.
    fact.changedMs = Number.POSITIVE_INFINITY;
    const changed = containers.map((one) => (one.name === 'a' ? { ...one, image } : one));
    this.#ports.server.changeSpec(object, { ...object.spec, containers: changed });
  }

  changeManifests(): void {
    const [first] = this.manifests;
    if (first !== undefined && chance(this.#ports.random, 0.5)) {
      return this.setManifests(this.manifests.slice(1));
    }
    if (this.manifests.length > 2) return;
    const name = `${pick(this.#ports.random, ['edge', 'gate', 'probe'])}-${NODE_NAME}`;
    if (this.manifests.some(({ metadata }) => metadata.name === name)) return;
    const uid = `static-${(this.#ports.time.steps += 1)}`;
    const cpu = pick(this.#ports.random, ['100m', '500m']);
    const resources = { requests: { cpu }, limits: {} };
    const containers = [aContainer({ name: 'a', image: 'busybox', resources })];
    const spec = { containers, terminationGracePeriodSeconds: 5 };
    this.#ports.facts.add({
      ...{ uid, name, namespace: 'default', source: 'file', restartPolicy: 'Always', version: 0 },
      ...{ cpuMilli: Number.parseInt(cpu, 10), graceSeconds: 5 },
    });
    this.#ports.behaviours.set(`${uid}/a`, randomBehaviour(this.#ports.random, 'a', 'Always'));
    this.setManifests([...this.manifests, aPod(spec, { name, uid })]);
  }

  setManifests(pods: readonly Pod[]): void {
    this.manifests = pods;
    for (const fact of this.#ports.facts.all.values()) {
      if (fact.source !== 'file' || pods.some((pod) => pod.metadata.uid === fact.uid)) continue;
      fact.mayEnd = true;
    }
    try {
      this.#ports.node()?.desired.setManifests(pods);
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
    }
  }
}
