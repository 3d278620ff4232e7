import assert from 'node:assert/strict';
import { test } from 'node:test';

import { splitLines } from '../../src/apiserver/lines.ts';

const TEXT = '{"a":"ä€😀"}\n\n{"b":1}\n{"c":"half';

test('lines come whole, wherever the bytes were cut', () => {
  const bytes = Buffer.from(TEXT);
  for (let size = 1; size <= bytes.length; size++) {
    const lines: string[] = [];
    const splitter = splitLines(1000, (line) => lines.push(line), assert.fail);
    for (let at = 0; at < bytes.length; at += size) splitter.push(bytes.subarray(at, at + size));
    assert.deepEqual(lines, ['{"a":"ä€😀"}', '{"b":1}'], `in pieces of ${size}`);
    assert.equal(splitter.pending, 10);
  }
});

test('a line that is too long ends it, before and after its end has come', () => {
  const lines: string[] = [];
  const make = () =>
    splitLines(
      5,
      (line) => lines.push(line),
      () => new RangeError('long'),
    );
  make().push(Buffer.from('12345\n'));
  assert.deepEqual(lines, ['12345']);
  assert.throws(() => make().push(Buffer.from('123456\n')), RangeError);
  const splitter = make();
  splitter.push(Buffer.from('123'));
  assert.throws(() => splitter.push(Buffer.from('456')), RangeError);
});
