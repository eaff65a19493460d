from handlers.commands import main

main()
