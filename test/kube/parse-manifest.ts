/** What the tests of the parser share. */
import assert from 'node:assert/strict';
import * as yaml from 'yaml';

import { formatProblem } from '../../src/kube/manifest-node.ts';
import { parseManifest } from '../../src/kube/parse.ts';
import type { Pod } from '../../src/kube/pod.ts';

/** The pods of a manifest that has no problem. */
export function podsOf(text: string): readonly Pod[] {
  const { pods, problems } = parseManifest(text, yaml);
  assert.deepEqual(problems, []);
  return pods;
}

/** The problems of a manifest, as people see them. */
export function problemsOf(text: string): string[] {
  const { pods, problems } = parseManifest(text, yaml);
  assert.ok(problems.length > 0, 'no problem was found');
  assert.deepEqual(pods, []);
  return problems.map((problem) => formatProblem('f', problem));
}

/** A pod with these lines in its spec, from line 6 on. */
export const inSpec = (lines: string) => `apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: [{name: c, image: i}]
${lines.replace(/^/gm, '  ')}`;

/** A pod with these lines in its container, from line 9 on. */
export const inContainer = (lines: string) => `apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  volumes: [{name: v}]
  containers:
  - name: c
    image: i
${lines.replace(/^/gm, '    ')}`;
