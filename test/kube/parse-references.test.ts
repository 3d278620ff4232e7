/** Reading what a pod takes from objects, from itself and from its node. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as yaml from 'yaml';

import { formatProblem } from '../../src/kube/manifest-node.ts';
import { parseManifest } from '../../src/kube/parse.ts';
import { inContainer, inSpec } from './parse-manifest.ts';

function specOf(text: string) {
  const { pods, problems } = parseManifest(text, yaml, 'api');
  assert.deepEqual(problems, [], text);
  return pods[0]!.spec;
}

const envOf = (lines: string) => specOf(inContainer(lines)).containers[0]!;
const volumeOf = (lines: string) => specOf(inSpec(`volumes: [{name: v, ${lines}}]`)).volumes[0];

/** The only problem, without the line. */
function problemOf(text: string): string {
  const { problems } = parseManifest(text, yaml, 'api');
  const lines = problems.map((problem) => formatProblem(undefined, problem));
  assert.equal(lines.length, 1, JSON.stringify(lines));
  return lines[0]!.replace(/^line \d+: /, '');
}

const inEnv = (source: string) =>
  problemOf(inContainer(`env: [{name: A, valueFrom: ${source}}]`)).replace(
    /^spec\.containers\[0\]\.env\[0\]\.valueFrom\.?/,
    '',
  );
const inVolume = (source: string) =>
  problemOf(inSpec(`volumes: [{name: v, ${source}}]`)).replace(/^spec\.volumes\[0\]\./, '');

test('sources of variables', () => {
  const { env, envFrom } = envOf(`
env:
- {name: A, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: "metadata.labels['a/b']"}}}
- {name: B, value: '', valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
- {name: C, valueFrom: {resourceFieldRef: {resource: requests.memory, containerName: x, divisor: '0'}}}
- {name: D, valueFrom: {configMapKeyRef: {name: c, key: k}}}
- {name: E, valueFrom: {secretKeyRef: {name: s, key: k.x, optional: true}, fileKeyRef: null}}
- {name: F, valueFrom: {fieldRef: {fieldPath: spec.host}}}
- {name: G, value: g}
envFrom: [{configMapRef: {name: c}}, {prefix: P_, secretRef: {name: s, optional: true}}]`);
  assert.deepEqual(
    env.map(({ valueFrom }) => valueFrom),
    [
      { kind: 'fieldRef', fieldPath: "metadata.labels['a/b']" },
      { kind: 'resourceFieldRef', resource: 'limits.cpu', divisor: '1m' },
      { kind: 'resourceFieldRef', resource: 'requests.memory', containerName: 'x', divisor: '1' },
      { kind: 'configMapKeyRef', name: 'c', key: 'k', optional: false },
      { kind: 'secretKeyRef', name: 's', key: 'k.x', optional: true },
      { kind: 'fieldRef', fieldPath: 'spec.nodeName' },
      undefined,
    ],
  );
  assert.deepEqual(envFrom, [
    { kind: 'configMapRef', name: 'c', optional: false, prefix: '' },
    { kind: 'secretRef', name: 's', optional: true, prefix: 'P_' },
  ]);
  assert.equal(envOf('envFrom: []').envFrom, undefined);
});

test('volumes of objects, with what Kubernetes fills in', () => {
  const items = [{ key: 'k', path: 'a/b', mode: 0o400 }];
  assert.deepEqual(volumeOf('configMap: {name: c}'), {
    name: 'v',
    kind: 'configMap',
    objectName: 'c',
    items: [],
    optional: false,
    defaultMode: 0o644,
  });
  const more = 'optional: true, defaultMode: 0440, items: [{key: k, path: a/b, mode: 256}]';
  assert.deepEqual(volumeOf(`secret: {secretName: s, ${more}}`), {
    name: 'v',
    kind: 'secret',
    objectName: 's',
    items,
    optional: true,
    defaultMode: 0o440,
  });
  const file = '{path: p, fieldRef: {fieldPath: metadata.labels}}';
  assert.deepEqual(volumeOf(`downwardAPI: {items: [${file}]}`), {
    name: 'v',
    kind: 'downwardAPI',
    items: [{ path: 'p', from: { kind: 'fieldRef', fieldPath: 'metadata.labels' } }],
    defaultMode: 0o644,
  });
  const resource = '{containerName: c, resource: limits.memory, divisor: 1Mi}';
  const sources = `[{configMap: {name: c}}, {}, {secret: {name: s, items: [{key: k, path: x}]}},
    {downwardAPI: {items: [{path: m, resourceFieldRef: ${resource}}]}},
    {serviceAccountToken: {path: t}},
    {serviceAccountToken: {path: u, audience: vault, expirationSeconds: 600}}]`;
  assert.deepEqual(volumeOf(`projected: {defaultMode: 0, sources: ${sources}}`), {
    name: 'v',
    kind: 'projected',
    sources: [
      { kind: 'configMap', objectName: 'c', items: [], optional: false },
      { kind: 'secret', objectName: 's', items: [{ key: 'k', path: 'x' }], optional: false },
      {
        kind: 'downwardAPI',
        items: [
          {
            path: 'm',
            from: {
              kind: 'resourceFieldRef',
              containerName: 'c',
              resource: 'limits.memory',
              divisor: '1Mi',
            },
          },
        ],
      },
      { kind: 'serviceAccountToken', audience: '', expirationSeconds: 3600, path: 't' },
      { kind: 'serviceAccountToken', audience: 'vault', expirationSeconds: 600, path: 'u' },
    ],
    defaultMode: 0,
  });
});

test('variables: what Kubernetes refuses is refused in its words', () => {
  const cases: readonly [string, RegExp][] = [
    ['{}', /^: must specify one of: "fieldRef", "resourceFieldRef", "configMapKeyRef"/],
    [
      '{fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: s, key: k}}',
      /^: may not have more than one field specified at a time; remove "secretKeyRef" or/,
    ],
    ['{fieldRef: {}}', /^fieldRef\.fieldPath: is required$/],
    ['{fieldRef: {fieldPath: metadata.labels}}', /^fieldRef\.fieldPath: .*: must be one of /],
    ['{fieldRef: {fieldPath: status.phase}}', /"status\.phase": must be one of "metadata\.name"/],
    ['{fieldRef: {fieldPath: "spec.x[\'y\']"}}', /spec\.x does not support subscript$/],
    ['{fieldRef: {fieldPath: "metadata.labels[\'a b\']"}}', /"a b": name part must consist of/],
    ['{fieldRef: {apiVersion: v2, fieldPath: metadata.uid}}', /apiVersion: "v2": must be "v1"$/],
    ['{resourceFieldRef: {}}', /^resourceFieldRef\.resource: is required$/],
    ['{resourceFieldRef: {resource: limits.disk}}', /"limits\.disk": must be one of "limits\.cpu"/],
    [
      '{resourceFieldRef: {resource: limits.cpu, divisor: 2m}}',
      /"2m": only divisor's values 1m and 1 are supported with the cpu resource$/,
    ],
    [
      '{resourceFieldRef: {resource: limits.memory, divisor: 1m}}',
      /"1m": only divisor's values 1, 1k, 1M, .*, 1Ei are supported with the memory resource$/,
    ],
    ['{configMapKeyRef: {key: k}}', /^configMapKeyRef\.name: is required$/],
    ['{configMapKeyRef: {name: c}}', /^configMapKeyRef\.key: is required$/],
    ['{configMapKeyRef: {name: C, key: k}}', /"C": a lowercase RFC 1123 subdomain/],
    ['{secretKeyRef: {name: s, key: a/b}}', /"a\/b": a valid config key must consist of/],
    ['{secretKeyRef: {name: s, key: ..x}}', /must not start with '\.\.'$/],
    ['{secretKeyRef: {name: s, key: k, Optional: true}}', /did you mean "optional"\?$/],
    ['{secretRef: {name: s}}', /^secretRef: EnvVarSource has no such field/],
  ];
  for (const [source, wanted] of cases) assert.match(inEnv(source), wanted, source);
  assert.match(
    problemOf(
      inContainer('env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]'),
    ),
    /valueFrom: may not be specified when `value` is not empty; remove one of the two$/,
  );
  const envFrom = (source: string) => problemOf(inContainer(`envFrom: [${source}]`));
  assert.match(envFrom('{prefix: A}'), /must specify one of: `configMapRef` or `secretRef`$/);
  assert.match(
    envFrom('{configMapRef: {name: c}, secretRef: {name: s}}'),
    /envFrom\[0\]: may not have more than one field specified at a time$/,
  );
  assert.match(envFrom('{configMapRef: {}}'), /configMapRef\.name: is required$/);
  assert.match(envFrom('{prefix: a=b, secretRef: {name: s}}'), /prefix: "a=b": a valid env/);
});

test('volumes: what Kubernetes refuses is refused in its words', () => {
  const item = (file: string) => `configMap: {name: c, items: [${file}]}`;
  const self = (file: string) => `downwardAPI: {items: [${file}]}`;
  const name = 'fieldRef: {fieldPath: metadata.name}';
  const token = (fields: string) => `projected: {sources: [{serviceAccountToken: {${fields}}}]}`;
  const cases: readonly [string, RegExp][] = [
    ['configMap: {}', /^configMap\.name: is required$/],
    ['secret: {}', /^secret\.secretName: is required$/],
    ['secret: {name: s, secretName: t}', /^secret\.name: SecretVolumeSource has no such field/],
    ['configMap: {name: c, defaultMode: 01000}', /512: must be a number between 0 and 0777/],
    ['configMap: {name: c, defaultMode: -1}', /-1: must be a number between 0 and 0777/],
    ['configMap: {name: c, defaultMode: 644}', /644: must be .*; in octal it is 0644$/],
    ['configMap: {name: c, defaultMode: "0644"}', /must be a whole number, not text/],
    [item('{path: p}'), /items\[0\]\.key: is required$/],
    [item('{key: k}'), /items\[0\]\.path: is required$/],
    [item('{key: k, path: /p}'), /path: "\/p": must be a relative path$/],
    [item('{key: k, path: a/../b}'), /must not contain '\.\.'$/],
    [item('{key: k, path: ..data}'), /"\.\.data": must not start with '\.\.'$/],
    [item('{key: k, path: p, mode: 999}'), /mode: 999: must be a number between 0 and 0777/],
    [self('{path: p}'), /items\[0\]: one of fieldRef and resourceFieldRef is required$/],
    [self('{path: p, fieldRef: {fieldPath: status.podIP}}'), /"status\.podIP": must be one of/],
    [self('{path: p, resourceFieldRef: {resource: limits.cpu}}'), /containerName: is required$/],
    [
      self(`{path: p, ${name}, resourceFieldRef: {containerName: c, resource: limits.cpu}}`),
      /can not be specified simultaneously$/,
    ],
    [
      'projected: {sources: [{secret: {name: s}, configMap: {name: c}}]}',
      /sources\[0\]: may not specify more than 1 volume type per source; make an item/,
    ],
    [
      `projected: {sources: [{downwardAPI: {items: [{path: p, ${name}}]}},
        {secret: {name: s, items: [{key: k, path: p}]}}]}`,
      /^projected\.sources: "p": conflicting duplicate paths$/,
    ],
    [token(''), /serviceAccountToken\.path: is required$/],
    [token('path: t, expirationSeconds: 599'), /may not specify a duration less than 10 minutes$/],
    [token('path: t, expirationSeconds: 4294967297'), /larger than 2\^32 seconds$/],
    ['configMap: {name: c}, emptyDir: {}', /may not specify more than 1 volume type/],
  ];
  for (const [source, wanted] of cases) assert.match(inVolume(source), wanted, source);
});

test('a name of a secret or an account that is none', () => {
  assert.match(problemOf(inSpec('serviceAccountName: A')), /serviceAccountName: "A": a lowercase/);
  assert.match(problemOf(inSpec('imagePullSecrets: [x]')), /imagePullSecrets\[0\]: must be a map/);
});
