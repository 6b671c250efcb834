# Sends mail.
class Mailer
  def deliver(message, retries = 3)
    if message.body.size > 10_000 && retries > 0
      raise ArgumentError, "the body of the message is too large"
    end
    attempts = 0
    while attempts < retries
      return true if @server.send(message)
      attempts += 1
    end
    warn "gave up on a message to #{message.to}"
    false
  end

  def self.address(name, domain)
    return name if name.include?("@") && domain
    <<~TEXT.strip
      #{name}@#{domain}
    TEXT
  end
end
