# SPDX-License-Identifier: Apache-2.0
# frozen_string_literal: true

# Evaluates a Vagrantfile with a stand-in for Vagrant, and prints as JSON what it asks for.

require "json"

# Answers every method by noting it: `a.b = 1` as {"b": 1}, `a.c "x", y: 2` as {"c": [["x", {"y": 2}]]}.
class Recorder
  attr_reader :seen

  def initialize
    @seen = {}
  end

  def method_missing(name, *arguments, **options)
    arguments += [options] unless options.empty?
    if name.to_s.end_with?("=")
      @seen[name.to_s.chomp("=")] = arguments.first
    elsif block_given?
      inner = Recorder.new
      yield inner
      note(name, arguments + [inner.seen])
    elsif arguments.empty?
      (@seen[name.to_s] ||= Recorder.new)
    else
      note(name, arguments)
    end
  end

  def respond_to_missing?(*)
    true
  end

  def to_json(*state)
    @seen.to_json(*state)
  end

  private

  def note(name, what)
    (@seen[name.to_s] ||= []) << what
  end
end

# What Vagrantfiles speak to.
module Vagrant
  def self.configure(version)
    recorder = Recorder.new
    yield recorder
    puts JSON.generate("version" => version, "config" => recorder.seen)
  end
end

load ARGV.fetch(0)
