/** Objects for tests, as an API server would have told of them. */
import type { ConfigMap, Lookup, Objects, Secret, Service } from '../../src/kube/objects.ts';

const NAMESPACE = 'default';

export function aConfigMap(name: string, data: Record<string, string>): ConfigMap {
  return { metadata: { name, namespace: NAMESPACE, uid: `cm-${name}` }, data };
}

export function aSecret(name: string, data: Record<string, string | Buffer>): Secret {
  const encoded = Object.entries(data).map(([key, value]) => [
    key,
    Buffer.from(value).toString('base64'),
  ]);
  return {
    metadata: { name, namespace: NAMESPACE, uid: `s-${name}` },
    type: 'Opaque',
    data: Object.fromEntries(encoded) as Record<string, string>,
  };
}

export function aService(
  name: string,
  spec: Service['spec'],
  namespace: string = NAMESPACE,
): Service {
  return { metadata: { name, namespace, uid: `svc-${name}` }, spec };
}

type Known = {
  readonly configMaps?: readonly ConfigMap[];
  readonly secrets?: readonly Secret[];
  readonly services?: readonly Service[];
  /** Of what is not there. */
  readonly otherwise?: 'absent' | 'unknown';
};

/** What is listed is known, all else is `otherwise`. */
export function objectsOfTest({
  configMaps = [],
  secrets = [],
  services,
  otherwise = 'absent',
}: Known): Objects {
  return {
    get: (kind, namespace, name) => {
      const all: readonly (ConfigMap | Secret)[] = kind === 'Secret' ? secrets : configMaps;
      const object = all.find(
        ({ metadata }) => metadata.name === name && metadata.namespace === namespace,
      );
      const found = object === undefined ? { state: otherwise } : { state: 'present', object };
      return found as Lookup<never>;
    },
    services: () =>
      services === undefined ? { state: otherwise } : { state: 'present', object: services },
  };
}
