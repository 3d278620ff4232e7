/** Bad input: what is said of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { inContainer, inSpec, problemsOf } from './parse-manifest.ts';

/** What is wrong, and the whole line that says so. */
const BAD: readonly [string, string][] = [
  ['', 'f: is empty; write a pod into it, or remove it'],
  ['# nothing\n---\n', 'f: is empty; write a pod into it, or remove it'],
  ['hello', 'f:1: is no Kubernetes object; begin it with "apiVersion: v1" and "kind: Pod"'],
  ['- a', 'f:1: is no Kubernetes object; begin it with "apiVersion: v1" and "kind: Pod"'],
  ['kind: Pod', 'f:1: apiVersion: must be "v1" for a Pod; write "apiVersion: v1"'],
  ['apiVersion: v1', 'f:1: kind: is required; write "kind: Pod"'],
  ['apiVersion: v1\nkind: [a]', 'f:2: kind: must be text, not a list'],
  [
    'apiVersion: apps/v1\nkind: Pod',
    'f:1: apiVersion: "apps/v1": must be "v1" for a Pod; write "apiVersion: v1"',
  ],
  [
    'apiVersion: apps/v1\nkind: Deployment',
    'f:2: kind: "Deployment": limpet runs pods and nothing else; write the pod template of the Deployment as a pod of its own ("kind: Pod")',
  ],
  [
    'apiVersion: v1\nkind: Secret',
    'f:2: kind: "Secret": limpet runs pods and nothing else; remove it',
  ],
  [
    'apiVersion: v1\nkind: pod',
    'f:2: kind: "pod": limpet runs pods and nothing else; did you mean "Pod"?',
  ],
  ['apiVersion: v1\nkind: List\nitems: []', 'f: items: has no pods; write a pod into it'],
  [
    'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List, items: []}',
    'f:4: items[0].kind: is a list within a list',
  ],
  [
    inSpec('').replace('name: a', 'generateName: a-'),
    'f:3: metadata.generateName: needs an API server to make a name of it; give the pod a "name"',
  ],
  [inSpec('').replace('name: a', ''), 'f:3: metadata.name: is required; give the pod a name'],
  [
    inSpec('').replace('name: a', 'name: My_Pod'),
    `f:3: metadata.name: "My_Pod": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')`,
  ],
  [
    inSpec('').replace('name: a', `name: ${'a'.repeat(254)}`),
    `f:3: metadata.name: "${'a'.repeat(80)}…": must be no more than 253 characters`,
  ],
  [
    inSpec('').replace('name: a', `name: ${'a'.repeat(250)}`),
    `f:3: metadata.name: "${'a'.repeat(80)}…": must have at most 217 characters together with the namespace`,
  ],
  [
    inSpec('').replace('name: a', 'name: a, namespace: A.b'),
    /^f:3: metadata\.namespace: "A\.b": a lowercase RFC 1123 label must/,
  ],
  [
    inSpec('').replace('name: a', 'name: a, labels: {-a: b}'),
    /^f:3: metadata\.labels\[-a\]: name part must consist of/,
  ],
  [
    inSpec('').replace('name: a', 'name: a, labels: {a: "b c"}'),
    /^f:3: metadata\.labels\.a: "b c": a valid label must/,
  ],
  [
    inSpec('').replace('name: a', 'name: a, labels: {a: yes}'),
    'f:3: metadata.labels.a: must be text, not true or false; write it in quotes: "yes"',
  ],
  [
    inSpec('').replace('name: a', 'name: a, labels: {/a: b}'),
    'f:3: metadata.labels[/a]: prefix part must be non-empty',
  ],
  [
    inSpec('').replace(
      'name: a',
      'name: a, annotations: {container.apparmor.security.beta.kubernetes.io/c: localhost/x}',
    ),
    'f:3: metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: "localhost/x": is not carried out by limpet yet; remove it, if the pod can do without',
  ],
  [
    inSpec('').replace('name: a', `name: a, annotations: {a: "${'x'.repeat(262144)}"}`),
    'f:3: metadata.annotations: must have at most 262144 bytes, not 262145',
  ],
  ['apiVersion: v1\nkind: Pod\nmetadata: {name: a}', 'f:1: spec: is required'],
  [
    'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}',
    'f:4: spec.containers: is required; a pod has at least one container',
  ],
  [
    'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: {name: a}}',
    'f:4: spec.containers: must be a list, not a map; begin each item with "- "',
  ],
  [
    inSpec('hostNetwrk: true'),
    'f:6: spec.hostNetwrk: PodSpec has no such field; did you mean "hostNetwork"?',
  ],
  [
    inContainer('hostNetwork: true'),
    'f:9: spec.containers[0].hostNetwork: Container has no such field; it is a field of PodSpec: move it there',
  ],
  [inContainer('foo: true'), 'f:9: spec.containers[0].foo: Container has no such field; remove it'],
  [
    inSpec('hostNetwork: "true"'),
    'f:6: spec.hostNetwork: "true": must be true or false, not text; remove the quotes',
  ],
  [inSpec('hostPID: 1'), 'f:6: spec.hostPID: must be true or false, not a number'],
  [
    inSpec('restartPolicy: always'),
    'f:6: spec.restartPolicy: "always": must be one of "Always", "OnFailure", "Never"; did you mean "Always"?',
  ],
  [
    inSpec('terminationGracePeriodSeconds: "30"'),
    'f:6: spec.terminationGracePeriodSeconds: "30": must be a whole number, not text; remove the quotes',
  ],
  [
    inSpec('terminationGracePeriodSeconds: 1.5'),
    'f:6: spec.terminationGracePeriodSeconds: must be a whole number, not 1.5',
  ],
  [
    inSpec('activeDeadlineSeconds: 0'),
    'f:6: spec.activeDeadlineSeconds: 0: must be between 1 and 2147483647, inclusive',
  ],
  [
    inSpec('dnsPolicy: Cluster'),
    /^f:6: spec\.dnsPolicy: "Cluster": must be one of "ClusterFirst", /,
  ],
  [
    inSpec('dnsPolicy: None'),
    'f:4: spec.dnsConfig: must provide `dnsConfig` when `dnsPolicy` is None'.replace('f:4', 'f:5'),
  ],
  [
    inSpec('dnsPolicy: None\ndnsConfig: {searches: [a]}'),
    'f:7: spec.dnsConfig.nameservers: must provide at least one DNS nameserver when `dnsPolicy` is None',
  ],
  [
    inSpec('dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}'),
    'f:6: spec.dnsConfig.nameservers: must not have more than 3 nameservers',
  ],
  [
    inSpec('dnsConfig: {nameservers: [1.1.1.256]}'),
    'f:6: spec.dnsConfig.nameservers[0]: "1.1.1.256": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
  ],
  [
    inSpec('dnsConfig: {options: [{value: a}]}'),
    'f:6: spec.dnsConfig.options[0].name: must not be empty',
  ],
  [
    inSpec('hostAliases: [{ip: x, hostnames: [a]}]'),
    /^f:6: spec\.hostAliases\[0\]\.ip: "x": must be a valid IP/,
  ],
  [
    inSpec('hostAliases: [{ip: 1.2.3.4, hostnames: [a_b]}]'),
    /^f:6: spec\.hostAliases\[0\]\.hostnames\[0\]: "a_b": a lowercase/,
  ],
  [inSpec('hostname: a.b'), /^f:6: spec\.hostname: "a\.b": a lowercase RFC 1123 label/],
  [inSpec('os: {name: windows}'), 'f:6: spec.os.name: "windows": this node runs "linux"'],
  [
    inSpec('hostPID: true\nshareProcessNamespace: true'),
    'f:7: spec.shareProcessNamespace: true: ShareProcessNamespace and HostPID cannot both be enabled',
  ],
  [
    inSpec('securityContext: {runAsUser: -1}'),
    'f:6: spec.securityContext.runAsUser: -1: must be between 0 and 2147483647, inclusive',
  ],
  [
    inSpec('securityContext: {supplementalGroups: [1, x]}'),
    'f:6: spec.securityContext.supplementalGroups[1]: "x": must be a whole number, not text',
  ],
  [
    inSpec('securityContext: {seccompProfile: {}}'),
    'f:6: spec.securityContext.seccompProfile.type: is required',
  ],
  [inSpec('volumes: [{name: v}, {name: v}]'), 'f:6: spec.volumes[1].name: "v": must be unique'],
  [inSpec('volumes: [{emptyDir: {}}]'), 'f:6: spec.volumes[0].name: is required'],
  [
    inSpec('volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]'),
    'f:6: spec.volumes[0].hostPath: may not specify more than 1 volume type; remove it or "emptyDir"',
  ],
  [
    inSpec('volumes: [{name: v, emptyDir: {medium: Disk}}]'),
    /^f:6: spec\.volumes\[0\]\.emptyDir\.medium: "Disk": must be one of "Memory"/,
  ],
  [
    inSpec('volumes: [{name: v, emptyDir: {sizeLimit: 1GB}}]'),
    'f:6: spec.volumes[0].emptyDir.sizeLimit: "1GB": must be a quantity; write it as in "500m", "1.5", "64Mi" or "2G"',
  ],
  [
    inSpec('volumes: [{name: v, emptyDir: {sizeLimit: -1}}]'),
    'f:6: spec.volumes[0].emptyDir.sizeLimit: "-1": must be greater than or equal to 0',
  ],
  [
    inSpec('volumes: [{name: v, hostPath: {path: ../etc}}]'),
    'f:6: spec.volumes[0].hostPath.path: "../etc": must be an absolute path; begin it with "/"',
  ],
  [
    inSpec('volumes: [{name: v, hostPath: {path: /a/../etc}}]'),
    `f:6: spec.volumes[0].hostPath.path: "/a/../etc": must not contain '..'`,
  ],
  [
    inSpec('volumes: [{name: v, hostPath: {path: /a, type: Dir}}]'),
    /^f:6: spec\.volumes\[0\]\.hostPath\.type: "Dir": must be one of "DirectoryOrCreate", /,
  ],
  [inSpec('volumes: [{name: v, hostPath: {}}]'), 'f:6: spec.volumes[0].hostPath.path: is required'],
  [
    inSpec('initContainers: [{name: c, image: i}]'),
    'f:6: spec.initContainers[0].name: "c": must be unique; each container of a pod has its own name',
  ],
  [
    inSpec('initContainers: [{name: d, image: i, restartPolicy: OnFailure}]'),
    'f:6: spec.initContainers[0].restartPolicy: "OnFailure": is not carried out by limpet yet; only "Always", which makes it a sidecar, is',
  ],
  [
    inSpec('initContainers: [{name: d, image: i, restartPolicy: Sometimes}]'),
    'f:6: spec.initContainers[0].restartPolicy: "Sometimes": must be one of "Always", "OnFailure", "Never"',
  ],
  [
    inSpec('').replace('image: i', 'image: ""'),
    'f:5: spec.containers[0].image: is required; name the image to run',
  ],
  [
    inSpec('').replace('image: i', 'image: "a b"'),
    'f:5: spec.containers[0].image: "a b": must not contain whitespace',
  ],
  [
    inSpec('').replace('image: i', 'image: 1'),
    'f:5: spec.containers[0].image: must be text, not a number; write it in quotes: "1"',
  ],
  [
    inSpec('').replace('name: c', 'name: C'),
    /^f:5: spec\.containers\[0\]\.name: "C": a lowercase RFC 1123 label/,
  ],
  [
    inSpec('').replace('{name: c, image: i}', 'null'),
    /^f:5: spec\.containers\[0\]: must be a map, not null/,
  ],
  [
    inContainer('args: [a, 8080]'),
    'f:9: spec.containers[0].args[1]: must be text, not a number; write it in quotes: "8080"',
  ],
  [inContainer('args:\n- a\n-'), 'f:11: spec.containers[0].args[1]: must be text, not null'],
  [
    inContainer('command: sleep 1'),
    'f:9: spec.containers[0].command: must be a list, not text; begin each item with "- "',
  ],
  [
    inContainer('workingDir: work'),
    'f:9: spec.containers[0].workingDir: "work": must be an absolute path; begin it with "/"',
  ],
  [
    inContainer('terminationMessagePath: x'),
    'f:9: spec.containers[0].terminationMessagePath: "x": must be an absolute path; begin it with "/"',
  ],
  [
    inContainer('imagePullPolicy: Allways'),
    'f:9: spec.containers[0].imagePullPolicy: "Allways": must be one of "Always", "IfNotPresent", "Never"; did you mean "Always"?',
  ],
  [
    inContainer('env: [{name: A, value: 12345}]'),
    'f:9: spec.containers[0].env[0].value: must be text, not a number; write it in quotes',
  ],
  [
    inContainer('env: [{name: "A=B", value: x}]'),
    `f:9: spec.containers[0].env[0].name: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='`,
  ],
  [inContainer('env: [{value: x}]'), 'f:9: spec.containers[0].env[0].name: is required'],
  [
    inContainer('env: {A: x}'),
    'f:9: spec.containers[0].env: must be a list, not a map; begin each item with "- "',
  ],
  [
    inContainer('ports: [{containerPort: 0}]'),
    'f:9: spec.containers[0].ports[0].containerPort: 0: must be between 1 and 65535, inclusive',
  ],
  [
    inContainer('ports: [{hostPort: 80}]'),
    'f:9: spec.containers[0].ports[0].containerPort: is required',
  ],
  [
    inContainer('ports: [{containerPort: 80, hostPort: 65536}]'),
    'f:9: spec.containers[0].ports[0].hostPort: 65536: must be between 1 and 65535, inclusive',
  ],
  [
    inContainer('ports: [{containerPort: 80, protocol: tcp}]'),
    'f:9: spec.containers[0].ports[0].protocol: "tcp": must be one of "TCP", "UDP", "SCTP"; did you mean "TCP"?',
  ],
  [
    inContainer('ports: [{containerPort: 80, name: a-very-long-port}]'),
    'f:9: spec.containers[0].ports[0].name: "a-very-long-port": must be no more than 15 characters',
  ],
  [
    inContainer('ports: [{containerPort: 80, name: "80"}]'),
    'f:9: spec.containers[0].ports[0].name: "80": must contain at least one letter (a-z)',
  ],
  [
    inContainer('ports: [{containerPort: 80, hostPort: 80, hostIP: localhost}]'),
    /^f:9: spec\.containers\[0\]\.ports\[0\]\.hostIP: "localhost": must be a valid IP/,
  ],
  [
    inContainer('ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]'),
    'f:9: spec.containers[0].ports[1].name: "a": must be unique',
  ],
  [
    inContainer('ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80}]'),
    'f:9: spec.containers[0].ports[1].hostPort: 80: is taken by another port of this pod (TCP)',
  ],
  [
    inSpec('hostNetwork: true').replace(
      'image: i',
      'image: i, ports: [{containerPort: 80, hostPort: 8080}]',
    ),
    'f:5: spec.containers[0].ports[0].hostPort: 8080: must match `containerPort` when `hostNetwork` is true',
  ],
  [
    inContainer('volumeMounts: [{name: w, mountPath: /w}]'),
    'f:9: spec.containers[0].volumeMounts[0].name: "w": not found; spec.volumes has "v"',
  ],
  [
    inContainer('volumeMounts: [{mountPath: /w}]'),
    'f:9: spec.containers[0].volumeMounts[0].name: is required; name a volume of spec.volumes',
  ],
  [
    inContainer('volumeMounts: [{name: v}]'),
    'f:9: spec.containers[0].volumeMounts[0].mountPath: is required',
  ],
  [
    inContainer('volumeMounts: [{name: v, mountPath: v}]'),
    'f:9: spec.containers[0].volumeMounts[0].mountPath: "v": must be an absolute path; begin it with "/"',
  ],
  [
    inContainer('volumeMounts: [{name: v, mountPath: /v/../../etc}]'),
    `f:9: spec.containers[0].volumeMounts[0].mountPath: "/v/../../etc": must not contain '..'`,
  ],
  [
    inContainer('volumeMounts: [{name: v, mountPath: "/a:b"}]'),
    `f:9: spec.containers[0].volumeMounts[0].mountPath: "/a:b": must not contain ':'`,
  ],
  [
    inContainer('volumeMounts: [{name: v, mountPath: //./}]'),
    `f:9: spec.containers[0].volumeMounts[0].mountPath: "//./": must not be '/', the root of the container's image`,
  ],
  [
    inContainer('volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /v/}]'),
    'f:9: spec.containers[0].volumeMounts[1].mountPath: "/v/": must be unique',
  ],
  [
    inContainer('volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]'),
    'f:9: spec.containers[0].volumeMounts[0].mountPropagation: Bidirectional mount propagation is available only to privileged containers',
  ],
  [
    inContainer('resources: {limits: {cpu: 1}, requests: {cpu: 1500m}}'),
    'f:9: spec.containers[0].resources.requests.cpu: "1500m": must be less than or equal to cpu limit of 1',
  ],
  [
    inContainer('resources: {limits: {cpu: -1}}'),
    'f:9: spec.containers[0].resources.limits.cpu: "-1": must be greater than or equal to 0',
  ],
  [
    inContainer('resources: {limits: {memory: 64MB}}'),
    'f:9: spec.containers[0].resources.limits.memory: "64MB": must be a quantity; write it as in "500m", "1.5", "64Mi" or "2G"',
  ],
  [
    inContainer('resources: {limits: {ram: 1}}'),
    'f:9: spec.containers[0].resources.limits.ram: must be a standard resource for containers; limpet knows "cpu" and "memory"',
  ],
  [
    inContainer('resources: {limits: []}'),
    'f:9: spec.containers[0].resources.limits: must be a map, not a list',
  ],
  [
    inContainer('securityContext: {privileged: true, allowPrivilegeEscalation: false}'),
    'f:9: spec.containers[0].securityContext: cannot set `allowPrivilegeEscalation` to false and `privileged` to true',
  ],
  [
    inContainer('securityContext: {capabilities: {add: [NET-ADMIN]}}'),
    'f:9: spec.containers[0].securityContext.capabilities.add[0]: "NET-ADMIN": must be the name of a capability; write it as in "NET_ADMIN", or "ALL"',
  ],
  [
    inSpec('').replace('name: a', 'name: "a\\0b"'),
    'f:3: metadata.name: must not contain a NUL character',
  ],
] as never;

test('what is wrong is said with its line, its path, its value and what to do', () => {
  for (const [text, expected] of BAD as readonly [string, string | RegExp][]) {
    const lines = problemsOf(text);
    if (typeof expected === 'string') assert.deepEqual(lines, [expected], text.slice(0, 400));
    else assert.match(lines.join('\n'), expected, text.slice(0, 400));
  }
});

const BAD_SYNTAX: readonly [string, string | RegExp][] = [
  ['a: b\na: c', 'f:2: has the field "a" twice, first in line 1; keep one of them'],
  [
    '{"a": 1,\n"b": {"c": 1, "c": 2}}',
    'f:2: has the field "c" twice, first in line 2; keep one of them',
  ],
  [
    'a:\n\tb: c',
    /^f:2: is no valid YAML: Tabs are not allowed as indentation; indent with spaces$/,
  ],
  ['a: b: c', /^f:1: is no valid YAML: .*; put text that has ": " in it in quotes$/],
  ['a: "b', /^f:1: is no valid YAML: .*; close the quote or bracket/],
  ['a: *b', 'f:1: has the alias *b without an anchor before it'],
  ['a: &a [*a]', 'f:1: has the alias *a within what it stands for'],
  ['a: &a {<<: *a}', 'f:1: has the alias *a within what it stands for'],
  ['<<: 1', 'f:1: merges ("<<") something that is not a map'],
  ['a: !!binary aGVsbG8=', /^f:1: is no valid YAML: Unresolved tag/],
  ['? [a]\n: b', 'f:1: has a field name that is not a word'],
  ['a: b\n\0c: d', 'f:2: has a NUL character: it is no text file'],
  ['{"a": 1,}', 'f:1: is no valid JSON: expected a field name in double quotes, but found "}"'],
  ['{"a": 1}\n}', 'f:2: is no valid JSON: expected the end of the text, but found "}"'],
  ['{"a": 01}', 'f:1: is no valid JSON: expected "," or "}", but found "1"'],
  [
    '{"a": "\n"}',
    'f:1: is no valid JSON: expected text in double quotes, on one line, but found "\\""',
  ],
  ['{"a": [1 2]}', 'f:1: is no valid JSON: expected "," or "]", but found "2"'],
  ['{', 'f:1: is no valid JSON: expected a field name in double quotes, but the text ends'],
  ['{"a": nul}', 'f:1: is no valid JSON: expected a value, but found "n"'],
];

test('a text that is no YAML or JSON is said to be none, with the line', () => {
  for (const [text, expected] of BAD_SYNTAX) {
    const [line] = problemsOf(text);
    if (typeof expected === 'string') assert.equal(line, expected);
    else assert.match(line!, expected);
  }
});
