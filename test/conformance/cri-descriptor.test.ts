import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import type { Enumeration, Field, Message } from '../../src/cri/codec.ts';
import { enumeration, message } from '../../src/cri/codec.ts';
import { IMAGE_METHODS } from '../../src/cri/image.ts';
import { RUNTIME_METHODS } from '../../src/cri/runtime.ts';
import * as schema from '../../src/cri/schema.ts';
import { differences, enumDifferences, readDescriptor, type Descriptor } from './cri-descriptor.ts';

const has = (value: unknown, key: string) =>
  typeof value === 'object' && value !== null && key in value;
const tables = [...Object.values(schema), ...Object.values(schema.Empty)] as unknown[];
const messages = tables.filter((value): value is Message => has(value, 'byNumber'));
const enums = tables.filter((value): value is Enumeration => has(value, 'names'));

let descriptor: Descriptor;
before(async () => {
  descriptor = await readDescriptor();
});

test('every field of ours is the CRI’s, in number, type and label', (t) => {
  const fields = messages.reduce((sum, { fields }) => sum + Object.keys(fields).length, 0);
  t.diagnostic(`${messages.length} messages, ${fields} fields, ${enums.length} enums compared`);
  assert.ok(messages.length > 60 && fields > 160 && enums.length >= 8);
  assert.deepEqual(
    [
      ...messages.flatMap((of) => differences(of, descriptor)),
      ...enums.flatMap((of) => enumDifferences(of, descriptor)),
    ],
    [],
  );
});

test('every call of ours is the CRI’s', () => {
  const methods = [...Object.values(RUNTIME_METHODS), ...Object.values(IMAGE_METHODS)];
  for (const { path, request, response } of methods) {
    assert.deepEqual(
      descriptor.methods[path],
      {
        request: request.name,
        response: response.name,
        stream: path.endsWith('/GetContainerEvents'),
      },
      path,
    );
  }
  assert.ok(methods.length >= 19, `${methods.length}`);
});

test('a table that is wrong is told, field by field', () => {
  const field = (number: number, kind: Field['kind'], more: Partial<Field> = {}): Field => ({
    number,
    kind,
    repeated: false,
    ...more,
  });
  const metadata = message('ContainerMetadata', {});
  const wrong = message('PodSandbox', {
    id: field(2, 'string'),
    metadata: field(2, 'message', { message: metadata }),
    state: field(3, 'int32'),
    createdAt: field(4, 'uint64'),
    labels: field(5, 'map', { repeated: true }),
    annotations: field(6, 'string'),
    handler: field(7, 'string'),
  });
  assert.deepEqual(differences(wrong, descriptor), [
    'PodSandbox.id: number 2, in the CRI 1',
    'PodSandbox.metadata: of ContainerMetadata, in the CRI PodSandboxMetadata',
    'PodSandbox.state: type int32, in the CRI enum',
    'PodSandbox.state: of undefined, in the CRI PodSandboxState',
    'PodSandbox.created_at: type uint64, in the CRI int64',
    'PodSandbox.labels: repeated true, in the CRI false',
    'PodSandbox.annotations: type string, in the CRI map',
    'PodSandbox.annotations: of undefined, in the CRI string,string',
    'PodSandbox.handler: there is no such field',
  ]);
  assert.deepEqual(differences(message('PodSandBox', {}), descriptor), [
    'PodSandBox: there is no such message',
  ]);
  assert.deepEqual(enumDifferences(enumeration('Protocol', { TCP: 0, UDP: 2 }), descriptor), [
    'Protocol.SCTP: undefined, in the CRI 2',
    'Protocol.UDP: 2, in the CRI 1',
  ]);
});
