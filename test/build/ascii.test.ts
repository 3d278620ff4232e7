import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { build } from 'esbuild';
import { inAscii } from '../../scripts/lib/ascii.ts';

test('a bundle in ASCII does the same', async () => {
  const program = "[...'5µs 5μs 5° 😀'.matchAll(/[µμ°]s?|😀/g)].map(String).join() + `ä`";
  const { outputFiles } = await build({
    stdin: { contents: `globalThis.said = ${program};` },
    write: false,
    minify: true,
    charset: 'ascii',
  });
  const bundle = outputFiles[0]!.text;
  // Otherwise there is nothing to do any more.
  assert.match(bundle, /[^\0-\x7f]/);
  const ascii = inAscii(bundle);
  assert.doesNotMatch(ascii, /[^\0-\x7f]/);
  const world = { said: '' };
  runInNewContext(ascii, world);
  assert.equal(world.said, 'µs,μs,°,😀ä');
});
