/** What is said of configurations that can't be used, or not wholly. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as yaml from 'yaml';
import type { Findings } from '../../src/kube/config-settings.ts';
import { resolveGates } from '../../src/kube/feature-gates.ts';
import { formatDuration, parseDuration } from '../../src/kube/go-duration.ts';
import { jsonSchemaOf } from '../../src/kube/json-schema.ts';
import { KUBELET_CONFIG, kubeletConfiguration } from '../../src/kube/kubelet-settings.ts';
import { LIMPET_CONFIG } from '../../src/kube/limpet-config.ts';
import { formatProblem } from '../../src/kube/manifest-node.ts';
import { parseFlags } from '../../src/kube/parse-flags.ts';
import { readConfig } from '../../src/kube/read-config.ts';
import { KUBEADM_CONFIG } from './kubelet-config/cases.ts';

const HEAD = 'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n';

function read(text: string, ...args: readonly string[]) {
  const findings: Findings = { problems: [], warnings: [] };
  const { kubelet, flags } = parseFlags(args, '/');
  const reading = readConfig(text, KUBELET_CONFIG, { yaml, directory: '/etc' });
  const file = { path: 'f', reading };
  const sources = { file, dropIns: undefined, kubelet, flags, defaults: 'withFile' } as const;
  return { ...kubeletConfiguration(sources, findings), ...findings };
}

const PROBLEMS: readonly [string, string][] = [
  ['maxPods: "9"', 'f:3: maxPods: "9": must be a whole number, not text; remove the quotes'],
  ['maxPods: -1', 'f:3: maxPods: -1: must be between 0 and 2147483647, inclusive'],
  ['maxPods: 111', 'f:3: maxPods: 111: limpet runs at most 110 pods; lower it'],
  ['maxPods: [5]', 'f:3: maxPods: must be a whole number, not a list'],
  ['syncFrequency: 90', 'must be a duration, not a number; write it as in "30s", "5m" or "1h30m"'],
  ['syncFrequency: soon', 'f:3: syncFrequency: "soon": must be a duration; write it as in "30s"'],
  ['failSwapOn: "no"', 'f:3: failSwapOn: "no": must be true or false, not text'],
  ['clusterDNS: 10.0.0.1', 'f:3: clusterDNS: must be a list, not text; begin each item with "- "'],
  ['clusterDNS: [10.0.0]', 'f:3: clusterDNS[0]: "10.0.0": must be a valid IP address'],
  ['authentication:\n  x509: /ca', 'f:4: authentication.x509: must be a map, not text'],
  [
    'cgroupDriver: sytemd',
    'f:3: cgroupDriver: "sytemd": must be one of "cgroupfs", "systemd"; did you mean "systemd"?',
  ],
  ['containerLogMaxSize: 10MB', 'f:3: containerLogMaxSize: "10MB": must be a quantity'],
  ['containerLogMaxSize: 1Ki', 'f:3: containerLogMaxSize: "1Ki": must be 4Ki or more'],
  [
    'containerRuntimeEndpoint: tcp://1.2.3.4',
    'must be a unix socket; write it as in "unix:///run/',
  ],
  [
    'imageServiceEndpoint: unix:///x',
    'imageServiceEndpoint: "unix:///x": limpet takes images from',
  ],
  [
    'maxPods: 5\nmaxPods: 6',
    'f:4: has the field "maxPods" twice, first in line 3; keep one of them',
  ],
  ['---\nkind: x', 'f:4: has a second document; remove all but one'],
  [
    'featureGates: {NodeSwap: false}',
    'f:3: featureGates: false: cannot set feature gate NodeSwap to false, feature is locked to true',
  ],
  [
    'featureGates: {NodeSwop: true}',
    'unrecognized feature gate: NodeSwop; did you mean "NodeSwap"?',
  ],
  [
    'featureGates: {NodeDeclaredFeatures: false}',
    'depends on features that are disabled: [NodeDeclaredFeatures]',
  ],
  [
    'evictionHard: {memory.available: 110%}',
    'memory.available: "110%" is no percentage from 0% to 100%',
  ],
  ['evictionHard: {memory.available: "0"}', 'memory.available: "0" must be more than zero'],
  ['evictionHard: {memory.avail: 5%}', 'memory.avail: is no signal of eviction (memory.available,'],
  ['evictionHard: {memory.available: 5}', 'must be text, not a number; write it in quotes: "5"'],
  ['evictionSoft: {memory.available: 1Gi}', 'memory.available needs an evictionSoftGracePeriod'],
  ['evictionSoftGracePeriod: {memory.available: 1}', 'must be text, not a number'],
  [
    'evictionMinimumReclaim: {nodefs.available: 0%}',
    'nodefs.available: "0%" must be more than zero',
  ],
  ['systemReserved: {gpu: "1"}', 'can reserve cpu, memory, ephemeral-storage, pid, not gpu'],
  ['systemReserved: {cpu: "-1"}', 'systemReserved: {"cpu":"-1"}: cpu: "-1" must not be negative'],
  ['registerWithTaints: [{key: a}]', 'f:3: registerWithTaints[0].effect: is required'],
  ['tlsCertFile: /x', 'f:3: tlsCertFile: "/x": tlsCertFile and tlsPrivateKeyFile go together'],
  [
    'logging: {options: {json: {infoBufferSize: 1Ki}}}',
    'needs the feature gate LoggingAlphaOptions',
  ],
  // What limpet has no code for, and may not leave out.
  [
    'cpuManagerPolicy: static',
    'f:3: cpuManagerPolicy: "static": is not carried out by limpet: limpet gives pods no processors or memory of their own yet; remove it',
  ],
  ['seccompDefault: true', 'f:3: seccompDefault: true: is not carried out by limpet'],
  ['podPidsLimit: 100', 'f:3: podPidsLimit: 100: is not carried out by limpet'],
  ['staticPodURL: http://x', 'f:3: staticPodURL: "http://x": is not carried out by limpet'],
  [
    'staticPodURLHeader: {Authorization: [secret-word]}',
    'f:3: staticPodURLHeader: is not carried out',
  ],
  ['systemReserved: {cpu: "1"}', 'f:3: systemReserved: {"cpu":"1"}: is not carried out by limpet'],
  ['shutdownGracePeriod: 30s', 'f:3: shutdownGracePeriod: "30s": is not carried out by limpet'],
  ['runOnce: true', 'f:3: runOnce: true: is not carried out by limpet: neither the kubelet nor'],
];

test('a problem has its file, line, path, value, and what to do', () => {
  for (const [lines, expected] of PROBLEMS) {
    const { problems } = read(`${HEAD}${lines}\n`);
    assert.ok(problems[0]!.includes(expected), `${problems[0]} / ${expected}`);
    assert.ok(!problems[0]!.includes('secret-word'));
  }
});

test('a text that is no configuration says how to begin one', () => {
  const begin = 'begin it with "apiVersion: kubelet.config.k8s.io/v1beta1" and "kind: Kubele';
  const cases: readonly [string, string][] = [
    ['', `f: is empty; ${begin}`],
    ['# nothing\n', `f: is empty; ${begin}`],
    ['- 1\n', `f:1: is no KubeletConfiguration but a list; ${begin}`],
    ['maxPods: 5\n', 'f:1: apiVersion: is required; write "apiVersion: kubelet.config.k8s.io/v1b'],
    [
      'apiVersion: v1\nkind: Pod\n',
      'f:1: apiVersion: "v1": must be "kubelet.config.k8s.io/v1beta1"',
    ],
    ['<html>\n', 'f:1: is no KubeletConfiguration but text'],
    ['a: [\n', 'is no valid YAML'],
    ['\0', 'f:1: has a NUL character'],
  ];
  for (const [text, expected] of cases) {
    const [problem = ''] = read(text).problems;
    assert.ok(problem.includes(expected), problem);
  }
});

test('what has no effect is said once for each reason, by name', () => {
  const { problems, warnings } = read(
    `${KUBEADM_CONFIG.replace('enabled: false', 'enabled: true')}kubeAPIQPS: 5\nkubeAPIBurst: 7\n`,
    '--cloud-provider=external',
  );
  assert.deepEqual(problems, []);
  assert.deepEqual(warnings, [
    'authentication.anonymous.enabled: without effect, limpet answers nobody whom it does not know',
    'kubeAPIQPS, kubeAPIBurst: without effect, limpet keeps to the defaults with an API server yet',
    '--cloud-provider: without effect, limpet keeps to the defaults with an API server yet',
  ]);
});

test('a field that nobody knows is a warning, as in the kubelet, with what was meant', () => {
  const { warnings, config } = read(`${HEAD}maxpods: 5\nauthentication: {x508: {}}\nzzz: 1\n`);
  assert.deepEqual(warnings, [
    'f:3: maxpods: KubeletConfiguration has no such field, it has no effect; did you mean "maxPods"?',
    'f:4: authentication.x508: KubeletConfiguration has no such field, it has no effect; did you mean "x509"?',
    'f:5: zzz: KubeletConfiguration has no such field, it has no effect; remove it',
  ]);
  assert.equal(config.maxPods, 110);
});

test('values that ask for nothing are taken without a word', () => {
  const { problems, warnings } = read(
    HEAD +
      `cpuManagerPolicy: none\npodPidsLimit: -1\nsystemReserved: {}\nmemorySwap: {}\ncgroupRoot: /
failSwapOn: false\nhealthzPort: 0\nenableServer: false\nshutdownGracePeriod: 0s\nsyncFrequency: 5s
registryPullQPS: 3\nstaticPodURL: ""\nevictionHard: {}\nmemorySwap: {swapBehavior: NoSwap}
`.replace('memorySwap: {}\n', ''),
  );
  assert.deepEqual(problems, []);
  assert.deepEqual(warnings, []);
});

test('a feature gate that limpet does not heed is a warning, one at its default is not', () => {
  const { warnings } = read(
    `${HEAD}featureGates: {EventedPLEG: true, ContainerCheckpoint: true}\n`,
  );
  assert.deepEqual(warnings, ['f:3: limpet does not heed the feature gate EventedPLEG']);
  const gates = resolveGates({ AllAlpha: true, EventedPLEG: false, AllBeta: true });
  assert.equal(gates.enabled('EventedPLEG'), false);
  assert.equal(gates.enabled('CRIListStreaming'), true);
  assert.equal(gates.enabled('SELinuxMount'), true);
  assert.equal(gates.enabled('NodeSwap'), true);
  assert.equal(gates.enabled('GitRepoVolumeDriver'), false);
  assert.equal(gates.enabled('constructor'), false);
});

test("limpet's own file is taken strictly", () => {
  const options = { yaml, directory: '/etc/limpet' };
  const head = 'apiVersion: limpet.dev/v1alpha1\nkind: LimpetConfiguration\n';
  const { given } = readConfig(
    `${head}rootDirectory: ../x\nlogLevel: debug\n`,
    LIMPET_CONFIG,
    options,
  );
  assert.deepEqual(
    [...given].map(([path, { value }]) => [path, value]),
    [
      ['rootDirectory', '/etc/x'],
      ['logLevel', 'debug'],
    ],
  );
  const { problems } = readConfig(
    `${head}loglevel: debug\nlogLevel: loud\n`,
    LIMPET_CONFIG,
    options,
  );
  assert.deepEqual(
    problems.map((problem) => formatProblem('f', problem)),
    [
      'f:3: loglevel: LimpetConfiguration has no such field, it has no effect; did you mean "logLevel"?',
      'f:4: logLevel: "loud": must be one of "debug", "info", "warn", "error"',
    ],
  );
});

test('the schema has every field, its words and its default', () => {
  const { properties } = jsonSchemaOf(LIMPET_CONFIG) as {
    properties: Record<string, Record<string, unknown>>;
  };
  assert.deepEqual(properties['apiVersion'], { const: 'limpet.dev/v1alpha1' });
  assert.equal(properties['runDirectory']!['default'], '/run/limpet');
  const { relay, ...others } = properties;
  const fields = [
    ...Object.values(others),
    ...Object.values(relay!['properties'] as Record<string, unknown>),
  ];
  assert.ok(fields.slice(2).every((field) => (field as { description?: string }).description));
  const kubelet = JSON.stringify(jsonSchemaOf(KUBELET_CONFIG));
  assert.ok(kubelet.includes('"syncFrequency":{"type":"string","default":"1m0s"}'));
});

test('durations are those of Go', () => {
  const cases: readonly [string, number, string][] = [
    ['0', 0, '0s'],
    ['0s', 0, '0s'],
    ['1m30s', 90_000, '1m30s'],
    ['1.5h', 5_400_000, '1h30m0s'],
    ['100ms', 100, '100ms'],
    ['-2m', -120_000, '-2m0s'],
    ['2h0m1.5s', 7_201_500, '2h0m1.5s'],
    ['1us', 0.001, '1µs'],
    ['1500ns', 0.0015, '1.5µs'],
    ['.5s', 500, '500ms'],
    ['+1h', 3_600_000, '1h0m0s'],
  ];
  for (const [text, ms, shown] of cases) {
    assert.equal(parseDuration(text), ms, text);
    assert.equal(formatDuration(ms), shown);
  }
  for (const bad of [
    '',
    '5',
    '1d',
    '1h 2m',
    's',
    '--1s',
    '1.2.3s',
    '9999999h',
    `${'1h'.repeat(40)}`,
  ]) {
    assert.equal(parseDuration(bad), undefined, bad);
  }
});
